"""Axes: which part of a curve is shown, and which round numbers stand beside it.

A single spike (a gradient norm of 1e6 at step 3) would press the rest of a curve flat. When a few
values lie far outside of the bulk, the axis shows the bulk, the curve is held at the border, and the
page says how far it went.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

NUM_TICKS = 5
# A value further from the bulk than this many of the bulk's heights is held at the border.
FAR = 3.0
MIN_BULK = 20
# Quotients of numbers below this would leave the range of a float.
LEAST = 1e-300


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps numbers to a line of `length` units, 0 at its beginning; numbers outside are held at the border.

    Attributes:
        low: number at 0.
        high: number at `length`.
        length: of the line.
        is_log: whether equal ratios, not differences, take equal lengths.
    """

    low: float
    high: float
    length: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a number."""
        if self.is_log:
            value = max(value, self.low)  # 0 has no logarithm; it stands at the border
            low = math.log(self.low)  # not the log of a quotient, which may overflow
            part = (math.log(value) - low) / (math.log(self.high) - low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return min(max(part, 0.0), 1.0) * self.length

    def ticks(self) -> list[float]:
        """Return a few round numbers inside the scale."""
        if self.is_log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            stride = max(1, math.ceil((last - first + 1) / NUM_TICKS))
            return [10.0**power for power in range(first, last + 1, stride)]
        step = _round_step((self.high - self.low) / NUM_TICKS)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def value_scale(
    values: Sequence[float], length: float, is_log: bool = False, is_from_zero: bool = False
) -> Scale:
    """Return the scale of a curve's values.

    Args:
        values: all of them, at least one.
        length: of the axis.
        is_log: whether the axis is logarithmic; numbers that are not positive stand at its border.
        is_from_zero: whether 0 is always in sight.
    """
    if is_log:
        powers = [math.log10(value) for value in values if value > LEAST] or [0.0]
        first, last = math.floor(min(powers)), math.ceil(max(powers))
        return Scale(10.0**first, 10.0 ** max(last, first + 1), length, True)
    low, high = _bulk([value if abs(value) > LEAST else 0.0 for value in values])
    if is_from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        margin = abs(low) * 0.1 or 1.0
        low, high = (0.0, margin) if low == 0 else (low - margin, high + margin)
    margin = (high - low) * 0.06
    return Scale(
        low if low == 0 else low - margin, high if high == 0 else high + margin, length, False
    )


def _bulk(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    if len(ordered) < MIN_BULK:
        return ordered[0], ordered[-1]
    low, high = ordered[len(ordered) // 50], ordered[-1 - len(ordered) // 50]
    reach = FAR * (high - low)
    if reach == 0:
        return ordered[0], ordered[-1]
    return (
        ordered[0] if ordered[0] >= low - reach else low - reach / 6,
        ordered[-1] if ordered[-1] <= high + reach else high + reach / 6,
    )


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * part for part in (1, 2, 2.5, 5, 10) if rough <= power * part * 1.0001)
