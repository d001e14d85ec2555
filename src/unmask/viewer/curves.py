"""Metrics as curves, thinned to the number of points that a screen can show.

Neighbouring steps are merged into buckets. A bucket keeps the mean, which is the curve, and the
extremes, which are drawn as a faint band, so that a spike of one step stays visible. Metrics whose
name ends in `_max` are bounds: their buckets keep the maximum instead of the mean.

A value that is NaN or infinite (`null` in the file) interrupts the curve and is counted. A metric
that is absent at a step was not measured there, and the curve continues.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unmask.runs.read import Record, is_number

MAX_POINTS = 600

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric over a run; all lists have one entry per bucket in which it was measured.

    Attributes:
        at: index of each bucket into `Curves.steps`, ascending.
        values: mean of each bucket (maximum for `_max`); None where no value was finite.
        low: smallest value of each bucket, or lower end of its interval.
        high: largest value of each bucket, or upper end of its interval.
        num_not_finite: number of steps at which the metric was NaN or infinite.
        has_interval: whether `low` and `high` are a 95 % interval.
    """

    at: Sequence[int]
    values: Values
    low: Values
    high: Values
    num_not_finite: int = 0
    has_interval: bool = False

    @property
    def finite(self) -> list[float]:
        """All finite numbers of the curve and its band."""
        values = (*self.values, *self.low, *self.high)
        return [value for value in values if value is not None]

    @property
    def data(self) -> dict[str, Any]:
        """The numbers that `charts.js` draws, with four significant digits."""
        data: dict[str, Any] = {"values": _rounded(self.values)}
        if list(self.at) != list(range(len(self.at))):
            data["at"] = self.at
        if (self.low, self.high) != (self.values, self.values):
            data |= {"low": _rounded(self.low), "high": _rounded(self.high)}
        return data


@dataclass(frozen=True, slots=True)
class Curves:
    """All metrics of a run on one axis of steps.

    Attributes:
        steps: last optimizer step of each bucket.
        bucket: number of lines of `metrics.jsonl` in a bucket.
        by_name: curves by name of the metric; those without a finite value are left out.
    """

    steps: Sequence[int]
    bucket: int
    by_name: Mapping[str, Curve]


def curves_from_metrics(metrics: Sequence[Record], max_points: int = MAX_POINTS) -> Curves:
    """Return the curves of a run, thinned to at most `max_points` points.

    Args:
        metrics: lines of `metrics.jsonl`, steps ascending.
        max_points: most points of a curve.
    """
    bucket = max(1, math.ceil(len(metrics) / max_points))
    found: dict[str, dict[int, list[float | None]]] = {}
    for index, row in enumerate(metrics):
        for name, value in row.items():
            if name != "step" and (value is None or type(value) in (int, float)):
                values = found.setdefault(name, {}).setdefault(index // bucket, [])
                values.append(value if is_number(value) else None)
    curves = {name: _curve(buckets, name.endswith("_max")) for name, buckets in found.items()}
    ends = range(bucket - 1, len(metrics) + bucket - 1, bucket)
    return Curves(
        steps=[metrics[min(end, len(metrics) - 1)]["step"] for end in ends],
        bucket=bucket,
        by_name=_with_intervals({name: c for name, c in curves.items() if c.finite}),
    )


def _curve(buckets: Mapping[int, Sequence[float | None]], is_bound: bool) -> Curve:
    finite = [[value for value in values if value is not None] for values in buckets.values()]
    high = tuple(max(values, default=None) for values in finite)
    means = tuple(sum(values) / len(values) if values else None for values in finite)
    return Curve(
        at=tuple(buckets),
        values=high if is_bound else means,
        low=tuple(min(values, default=None) for values in finite),
        high=high,
        num_not_finite=sum(map(len, buckets.values())) - sum(map(len, finite)),
    )


def _with_intervals(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Fold `x_low` and `x_high` into the curve `x` where they are measured at the same steps."""
    merged = dict(curves)
    for name, curve in curves.items():
        low, high = curves.get(f"{name}_low"), curves.get(f"{name}_high")
        if low and high and low.at == high.at == curve.at:
            merged[name] = replace(curve, low=low.values, high=high.values, has_interval=True)
            del merged[f"{name}_low"], merged[f"{name}_high"]
    return merged


def _rounded(values: Values) -> list[float | None]:
    return [None if value is None else float(f"{value:.4g}") for value in values]
