"""Progress of a run on stderr: done and total, time left, and the latest metrics.

A terminal gets rich's moving bar. Anything else (a file, a CI log) gets a plain line every
`SILENCE_S` seconds and one at the end, without carriage returns and colours.
"""

import sys
from datetime import timedelta
from functools import cache
from time import monotonic
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
            total: advances that fill it.
            label: the name of the activity, one or two words.
            done: advances that an earlier process made.
            stream: where it is drawn; stderr by default.
        """
        target: IO[str] = stream or sys.stderr
        # While another bar is shown, rich replaces stderr by a proxy.
        self._stream = target.rich_proxied_file if isinstance(target, FileProxy) else target
        self._total, self._label, self._done, self._first = total, label, done, done
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=30),
            progress.MofNCompleteColumn(),
            progress.TextColumn("ETA"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[metrics]}"),
            console=_console(self._stream),
            disable=not self._stream.isatty(),
        )

    def __enter__(self) -> "Progress":
        """Start the clock and draw the empty bar."""
        self._start = self._last_line = monotonic()
        self._task = self._bar.add_task(
            self._label, total=self._total, completed=self._first, metrics=""
        )
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last state of the bar on the screen."""
        self._bar.stop()

    def advance(self, amount: int = 1, /, **metrics: float) -> None:
        """Advance and show the latest metrics; `tokens_per_s` is shown as `tokens/s`."""
        self._done += amount
        titles = (name.replace("_per_", "/").replace("_", " ") for name in metrics)
        shown = "  ".join(map(" ".join, zip(titles, map(_short, metrics.values()), strict=True)))
        self._bar.update(self._task, advance=amount, metrics=shown)
        now, is_done = monotonic(), self._done >= self._total
        if self._bar.disable and (is_done or now - self._last_line >= SILENCE_S):
            self._last_line, elapsed = now, now - self._start
            left = elapsed * (self._total - self._done) / max(self._done - self._first, 1)
            time = f"took {_clock_time(elapsed)}" if is_done else f"ETA {_clock_time(left)}"
            line = f"{self._label} {self._done}/{self._total}  {time}  {shown}"
            self._stream.write(f"{line.rstrip()}\n")
            self._stream.flush()


@cache
def _console(stream: IO[str]) -> Console:
    """Return the one console of a stream: nested bars stack only if they share it."""
    return Console(file=stream)


def _short(value: float) -> str:
    """Return a number with at most three significant decimals."""
    is_whole = abs(value) >= 100 or float(value).is_integer()
    return f"{value:.0f}" if is_whole else f"{value:.3g}"


def _clock_time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
