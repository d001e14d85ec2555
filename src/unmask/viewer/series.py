"""Metrics as curves: thinned to what a screen can show, without hiding what happened.

A curve of 10,000 steps has more points than a screen has columns, and a page that holds them all is
slow and large. Neighbouring steps are therefore merged into buckets, and a bucket keeps its mean
and its extremes: the mean is the curve, the extremes are a faint band around it, so a spike of one
step stays visible. Metrics whose name ends in `_max` are bounds; their buckets keep the maximum.

A number the run could not compute (NaN, infinite; `null` in the file) breaks the curve and is
counted. A number that is absent was not measured at that step, and the curve goes on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unmask.viewer.numbers import is_number

MAX_POINTS = 600
# Half the width of the smoothing window, as a share of a curve's points.
SMOOTHING = 0.03
MIN_SMOOTHED = 20


@dataclass(frozen=True, slots=True)
class Column:
    """One metric over a run.

    Attributes:
        at: index into the history's steps of each point, ascending.
        values: mean (maximum for `_max`) of each point's bucket; None where no number was finite.
        low: smallest number of each bucket.
        high: largest number of each bucket.
        num_lost: steps at which the metric was NaN or infinite.
    """

    at: tuple[int, ...]
    values: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    num_lost: int = 0

    @property
    def finite(self) -> list[float]:
        """The values that are numbers."""
        return [value for value in self.values if value is not None]


@dataclass(frozen=True, slots=True)
class History:
    """All metrics of a run on one axis of steps.

    Attributes:
        steps: the last optimizer step of each bucket.
        first_step: the first optimizer step of all.
        columns: a metric's points by its name.
        bucket: neighbouring lines of `metrics.jsonl` merged into one point.
    """

    steps: tuple[int, ...]
    first_step: int
    columns: Mapping[str, Column]
    bucket: int


def history(metrics: Sequence[Mapping[str, Any]], max_points: int = MAX_POINTS) -> History:
    """Return the curves of a run, thinned to at most `max_points` points.

    Args:
        metrics: lines of `metrics.jsonl`, steps ascending; at least one.
        max_points: most points of a curve.
    """
    bucket = max(1, math.ceil(len(metrics) / max_points))
    found: dict[str, list[tuple[int, float | None]]] = {}
    for index, row in enumerate(metrics):
        for name, value in row.items():
            if name != "step" and (value is None or type(value) in (int, float)):
                finite = value if is_number(value) else None
                found.setdefault(name, []).append((index // bucket, finite))
    starts = range(0, len(metrics), bucket)
    return History(
        steps=tuple(metrics[min(s + bucket, len(metrics)) - 1]["step"] for s in starts),
        first_step=metrics[0]["step"],
        columns={name: _column(points, name.endswith("_max")) for name, points in found.items()},
        bucket=bucket,
    )


def smooth(values: Sequence[float | None]) -> list[float | None]:
    """Return a running mean with a triangular window, centred so that it does not lag.

    Gaps stay gaps; short curves are returned as they are.
    """
    if len(values) < MIN_SMOOTHED:
        return list(values)
    reach = max(2, round(len(values) * SMOOTHING))
    weights = [reach + 1 - abs(offset) for offset in range(-reach, reach + 1)]
    smoothed: list[float | None] = []
    for place, value in enumerate(values):
        first = max(0, place - reach)
        window = values[first : place + reach + 1]
        pairs = [
            (weight, near)
            for weight, near in zip(weights[first - place + reach :], window, strict=False)
            if near is not None
        ]
        total = sum(weight for weight, _ in pairs)
        smoothed.append(None if value is None else sum(w * v for w, v in pairs) / total)
    return smoothed


def _column(points: Sequence[tuple[int, float | None]], is_bound: bool) -> Column:
    buckets: dict[int, list[float]] = {}
    for index, value in points:
        numbers = buckets.setdefault(index, [])
        if value is not None:
            numbers.append(value)
    groups = buckets.values()
    low = tuple(min(numbers) if numbers else None for numbers in groups)
    high = tuple(max(numbers) if numbers else None for numbers in groups)
    means = tuple(sum(numbers) / len(numbers) if numbers else None for numbers in groups)
    return Column(
        at=tuple(buckets),
        values=high if is_bound else means,
        low=low,
        high=high,
        num_lost=sum(value is None for _, value in points),
    )
