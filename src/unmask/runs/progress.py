"""How far a run is, how long it will take, and how well it does.

On a terminal this is one moving bar. Anywhere else (a file, a CI log) it is a plain line now and
then and one at the end, without carriage returns or colours: a log must stay readable and short.
"""

import sys
from datetime import timedelta
from functools import cache
from time import monotonic
from types import TracebackType
from typing import IO

from rich import progress
from rich.console import Console
from rich.file_proxy import FileProxy

SILENCE_S = 10.0


class Progress:
    """A progress bar for `with Progress(total, "RL") as bar: bar.advance(accuracy=0.5)`."""

    def __init__(
        self, total: int, label: str, done: int = 0, stream: IO[str] | None = None
    ) -> None:
        """Prepare a bar.

        Args:
            total: how many advances make it full.
            label: what is going on, in a word or two.
            done: how many advances an earlier process made.
            stream: where it is drawn; stderr by default.
        """
        self._total, self._label, self._done, self._first = total, label, done, done
        self._stream = _real(stream or sys.stderr)
        self._bar = _terminal_bar(self._stream) if self._stream.isatty() else None
        self._start = self._last_line = monotonic()

    def __enter__(self) -> "Progress":
        """Start the clock and draw the empty bar."""
        self._start = self._last_line = monotonic()
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(
                self._label, total=self._total, completed=self._first, numbers=""
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last state of the bar on the screen."""
        if self._bar:
            self._bar.stop()

    def advance(self, amount: int = 1, /, **numbers: float) -> None:
        """Move on and show the latest numbers; `tokens_per_s` is shown as `tokens/s`."""
        self._done += amount
        shown = "  ".join(f"{_title(name)} {_short(value)}" for name, value in numbers.items())
        if self._bar:
            self._bar.update(self._task, advance=amount, numbers=shown)
            return
        now = monotonic()
        if self._done >= self._total or now - self._last_line >= SILENCE_S:
            self._last_line = now
            self._stream.write(f"{self._label} {self._done}/{self._total}  {self._time()}")
            self._stream.write(f"  {shown}\n" if shown else "\n")
            self._stream.flush()

    def _time(self) -> str:
        elapsed = monotonic() - self._start
        if self._done >= self._total:
            return f"took {_clock_time(elapsed)}"
        return f"ETA {_clock_time(elapsed * (self._total - self._done) / max(self._done - self._first, 1))}"


def _real(stream: IO[str]) -> IO[str]:
    """Return the stream itself: while a bar is up, rich puts a stand-in in the place of stderr."""
    return stream.rich_proxied_file if isinstance(stream, FileProxy) else stream


@cache
def _console(stream: IO[str]) -> Console:
    """One console per stream: bars inside bars (an evaluation in a run) stack only if they share it."""
    return Console(file=stream)


def _terminal_bar(stream: IO[str]) -> progress.Progress:
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=30),
        progress.MofNCompleteColumn(),
        progress.TextColumn("ETA"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[numbers]}"),
        console=_console(stream),
    )


def _title(name: str) -> str:
    return name.replace("_per_", "/").replace("_", " ")


def _short(value: float) -> str:
    """Three digits are what an eye can follow."""
    is_whole = abs(value) >= 100 or float(value).is_integer()
    return f"{value:.0f}" if is_whole else f"{value:.3g}"


def _clock_time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
