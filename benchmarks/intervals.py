"""Means over a few seeds with their 95 % intervals, by Student's t."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

# 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom.
T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def mean_and_half(values: Sequence[float]) -> tuple[float, float | None]:
    """Return a mean and half of its 95 % interval by Student's t; None of a single value."""
    if len(values) < 2:
        return fmean(values), None
    half = T975[len(values) - 2] * stdev(values) / math.sqrt(len(values))
    return fmean(values), half
