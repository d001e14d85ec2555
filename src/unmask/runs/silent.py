"""Log, report and progress bar of a process that writes nothing: every rank but the first."""

from collections.abc import Iterable, Mapping
from typing import Any, Self


class Silent:
    """Has the methods of `Metrics`, `LiveReport` and `Progress`, without effect."""

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close nothing."""

    def log(self, *, step: int, **numbers: float) -> None:
        """Log nothing."""

    def record(self, trajectories: Iterable[Mapping[str, Any]]) -> None:
        """Record nothing, and compute no record."""

    def cut_back(self, step: int) -> None:
        """Remove nothing."""

    def refresh(self) -> None:
        """Draw nothing."""

    def advance(self, amount: int = 1, /, **metrics: float) -> None:
        """Show nothing."""
