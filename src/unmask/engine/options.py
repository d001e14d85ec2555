"""Engine options: everything that does not depend on a request."""

from dataclasses import dataclass, replace

import torch

from unmask.bounds import check_fields
from unmask.configs.engine import EngineFields

# On CPU, more rows in a pass only overflow the processor's caches.
ROW_BUDGETS = {"cpu": 2048, "cuda": 16384}


@dataclass(frozen=True, slots=True)
class EngineParams(EngineFields):
    """Options of an engine; those of `[engine]` stand first.

    Raises:
        ValueError: a value is not accepted.
    """

    fuses_commit: bool = True
    """Write the keys and values of a finished block in the first pass of the next block. Exact in both
    cases; without it, every block takes an additional forward pass."""
    reads_late: bool | None = None
    """Read the results of a tick on the host while the next one runs, and choose the size of a pass before
    they are known; `None` does so on CUDA only. Results do not depend on it."""
    uses_graphs: bool = True
    """On CUDA, capture a step of each size once and replay it."""

    def __post_init__(self) -> None:
        """Check the fields."""
        check_fields(self)

    def on(self, device: torch.device) -> "EngineParams":
        """Return a copy in which the options that are left to the device are filled in."""
        is_cuda = device.type == "cuda"
        return replace(
            self,
            row_budget=self.row_budget or ROW_BUDGETS["cuda" if is_cuda else "cpu"],
            reads_late=is_cuda if self.reads_late is None else self.reads_late,
        )
