"""A report that follows its run: drawn seldom enough to cost nothing, and once more at the end.

A run calls `refresh` after every step and need not know what drawing costs: it happens at most
every `every_s` seconds, and never takes more than about a fiftieth of the time. However the run
ends, leaving the `with` draws the page a last time, as finished or as stopped.
"""

from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import TracebackType

from unmask.viewer.report import write_report

EVERY_S = 30.0
MAX_SHARE = 0.02


class LiveReport:
    """Draws a run's report now and then: `with LiveReport(run.path) as report: report.refresh()`."""

    def __init__(self, run_directory: Path, every_s: float = EVERY_S) -> None:
        """Prepare.

        Args:
            run_directory: of the run.
            every_s: least seconds between two drawings.
        """
        self._directory, self._every_s = run_directory, every_s
        self._due = 0.0

    def __enter__(self) -> "LiveReport":
        """Nothing is drawn before the first `refresh`."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Draw the page as it stays.

        Raises:
            OSError: it cannot be written; not when the run itself is failing, whose own error then
                says more.
        """
        with suppress(*(() if kind is None else (OSError,))):
            write_report(self._directory)

    def refresh(self) -> None:
        """Draw the page if it is due.

        Raises:
            OSError: it cannot be written.
        """
        start = monotonic()
        if start < self._due:
            return
        write_report(self._directory, is_running=True)
        end = monotonic()
        self._due = end + max(self._every_s, (end - start) / MAX_SHARE)
