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
        if count == 0:
            return
        self._count += count
        for name, statistic in statistics.items():
            values = statistic.values.detach().double()  # (S,)
            self._add(name, statistic._replace(values=_reduced(values, statistic.reduce)))

    def merge(self, other: "StatisticSums") -> None:
        """Add the sums of other packs, such as those of another rank."""
        self._count += other._count
        for name, statistic in other._found.items():
            self._add(name, statistic)

    def on_host(self) -> "StatisticSums":
        """Return the sums in host memory, to send them to other ranks."""
        found = StatisticSums()
        found._count = self._count
        found._found = {n: s._replace(values=s.values.cpu()) for n, s in self._found.items()}
        return found

    def _add(self, name: str, total: Statistic) -> None:
        if name in self._found:
            pair = torch.stack((self._found[name].values, total.values))
            total = total._replace(values=_reduced(pair, total.reduce))
        self._found[name] = total

    def metrics(self) -> dict[str, Metric]:
        """Return a number for every name."""
        return {
            name: Metric(
                float(total) / (self._count if reduce == "mean" else 1), reduce, is_of_first
            )
            for name, (total, reduce, is_of_first) in self._found.items()
        }


def _reduced(values: Tensor, reduce: Reduce) -> Tensor:
    return values.amax() if reduce == "max" else values.sum()


def over_updates(updates: Sequence[Mapping[str, Metric]]) -> dict[str, float]:
    """Reduce the metrics of a step's updates, which all have the same names, to one number each."""
    return {
        name: REDUCE[metric.reduce](
            [update[name].value for update in updates[: 1 if metric.is_of_first else None]]
        )
        for name, metric in updates[0].items()
    }
