"""What a part of `tools/gpu_check` is: a file in `parts/` that defines `PART`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

Group = Literal["correctness", "learning", "speed", "published"]


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a part runs and at which size.

    Attributes:
        device: `cuda` as a rule; `cpu` in a rehearsal.
        is_tiny: toy sizes, which a CPU finishes in seconds: the same code with smaller numbers.
        folder: an empty folder of the part's own, for checkpoints and runs.
    """

    device: torch.device
    is_tiny: bool
    folder: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a part.

    Attributes:
        summary: one line for the table, with the figures that matter and their units.
        passed: whether its condition holds; `None` for a measurement without one.
        figures: everything measured and every setting it depends on, as JSON.
    """

    summary: str
    passed: bool | None = None
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """One check or measurement. An exception is a failure, and its traceback is kept.

    Attributes:
        title: one line for the table: what is checked or measured.
        group: heading under which it stands.
        run: does it.
        limit_s: seconds on one H100 or H200, compilation included, after which it is stopped; that of
            most parts is far below.
        is_default: runs without `--all`.
        needs_torch: least torch version; with an older one the part reports `not run: torch ...`.
    """

    title: str
    group: Group
    run: Callable[[Setting], Outcome]
    limit_s: float
    is_default: bool = True
    needs_torch: str = "2.11"
