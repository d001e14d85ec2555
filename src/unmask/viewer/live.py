"""Redraws the report of a run while it runs, at a bounded cost, and once more when it ends.

`refresh` is cheap to call after every step: it draws only if at least `EVERY_S` seconds have passed
since the last drawing, and at least `PAUSE` times as long as that drawing took. Drawing therefore
takes less than 1 / `PAUSE` of the run's time, also when the files have grown. Call it outside
every timed stage, and on one rank only.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

from unmask.viewer.report import write_report

EVERY_S = 30.0  # least seconds between the end of one drawing and the start of the next
PAUSE = 20.0


class LiveReport:
    """Draws a run's report repeatedly: `with LiveReport(run.path) as report: report.refresh()`."""

    def __init__(self, run_directory: Path, clock: Callable[[], float] = monotonic) -> None:
        """Draw nothing yet.

        Args:
            run_directory: of the run.
            clock: returns the present time in seconds.
        """
        self._directory, self._clock = run_directory, clock
        self._due = clock()

    def __enter__(self) -> "LiveReport":
        """Return this; the first `refresh` draws."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Draw the final page, also after an error.

        Raises:
            OSError: the page cannot be written. It is suppressed if the run itself failed, so that
                the run's own error is reported.
        """
        with suppress(*(() if kind is None else (OSError,))):
            write_report(self._directory)

    def refresh(self) -> None:
        """Draw the page as running, if it is due.

        Raises:
            OSError: the page cannot be written.
        """
        start = self._clock()
        if start < self._due:
            return
        write_report(self._directory, is_running=True)
        end = self._clock()
        self._due = end + max(EVERY_S, PAUSE * (end - start))
