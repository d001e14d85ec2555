"""Statistics of a loss: named values per target, each with the reduction that makes one number of them.

Two reductions follow each other: over the targets of one update, and over the updates of one step.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Reduce = Literal["mean", "sum", "max"]
# Over the updates of a step. Not `fmean`, which rounds differently.
REDUCE: dict[Reduce, Callable[[list[float]], float]] = {
    "mean": lambda values: sum(values) / len(values),
    "sum": sum,
    "max": max,
}


class Statistic(NamedTuple):
    """Values of `S` targets.

    Attributes:
        values: `(S,)`.
        reduce: over the targets of an update, and then over the updates of a step.
        is_of_first: whether only the step's first update counts, as for the gap between engine and
            learner, which later updates widen on purpose.
    """

    values: Tensor
    reduce: Reduce = "mean"
    is_of_first: bool = False


class Metric(NamedTuple):
    """A number of one update, and how it is reduced over updates; see `Statistic`."""

    value: float
    reduce: Reduce = "mean"
    is_of_first: bool = False


class StatisticSums:
    """Statistics reduced over packs, on the device they are computed on."""

    def __init__(self) -> None:
        """Start empty."""
        self._count = 0
        self._found: dict[str, Statistic] = {}

    def add(self, statistics: Mapping[str, Statistic], count: int) -> None:
        """Add the statistics of a pack of `count` targets."""
        self._count += count
        for name, statistic in statistics.items():
            values = statistic.values.detach().double()  # (S,)
            reduce = torch.amax if statistic.reduce == "max" else torch.sum
            total = reduce(values)
            if name in self._found:
                total = reduce(torch.stack((self._found[name].values, total)))
            self._found[name] = statistic._replace(values=total)

    def metrics(self) -> dict[str, Metric]:
        """Return a number for every name."""
        return {
            name: Metric(
                float(total) / (self._count if reduce == "mean" else 1), reduce, is_of_first
            )
            for name, (total, reduce, is_of_first) in self._found.items()
        }


def over_updates(updates: Sequence[Mapping[str, Metric]]) -> dict[str, float]:
    """Reduce the metrics of a step's updates, which all have the same names, to one number each."""
    return {
        name: REDUCE[metric.reduce](
            [update[name].value for update in updates[: 1 if metric.is_of_first else None]]
        )
        for name, metric in updates[0].items()
    }
