"""Elapsed and CPU seconds of each stage.

Elapsed time is what a user waits for; CPU time is comparable on a machine with other work. CPU time counts
all threads of this process and the worker processes it has waited for; a worker is counted in the stage
in which it ends, because the system reports its time only then.
"""

import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seconds:
    """Time spent in a stage."""

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: "Seconds") -> "Seconds":
        """Return the sum."""
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)


class Clock:
    """Adds up seconds by stage: `with clock("rollout"): ...`."""

    def __init__(self) -> None:
        """Start with no stages."""
        self.stages: dict[str, Seconds] = {}

    @contextmanager
    def __call__(self, stage: str) -> Generator[None, None, None]:
        """Add the time spent inside the `with` to a stage, also when it ends in an exception."""
        wall, cpu = time.perf_counter(), cpu_s()
        try:
            yield
        finally:
            spent = Seconds(time.perf_counter() - wall, cpu_s() - cpu)
            self.stages[stage] = self.stages.get(stage, Seconds()) + spent

    @classmethod
    def of_ranks(cls, stages: Sequence[Mapping[str, Seconds]]) -> "Clock":
        """Return the clock of several processes: of each stage the longest time and all CPU time."""
        found = cls()
        for name in dict.fromkeys(name for of_rank in stages for name in of_rank):
            spent = [of_rank.get(name, Seconds()) for of_rank in stages]
            found.stages[name] = Seconds(max(s.wall for s in spent), sum(s.cpu for s in spent))
        return found

    def numbers(self) -> dict[str, float]:
        """Return the stages as metrics: `rollout_wall_s`, `rollout_cpu_s` and so on."""
        return {
            f"{stage}_{kind}_s": round(value, 4)
            for stage, seconds in self.stages.items()
            for kind, value in (("wall", seconds.wall), ("cpu", seconds.cpu))
        }


def cpu_s() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system
