"""Numbers and times: which values are numbers at all, and how a person reads them, in few digits."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeGuard

# More digits after the point than these are written in scientific form.
MAX_DIGITS = 4
# Means and differences of numbers beyond this would leave the range of a float.
MOST = 1e300


def is_number(value: object) -> TypeGuard[float]:
    """Say whether a value from JSON is a number to count with: finite, of a sane size, no boolean."""
    return isinstance(value, int | float) and type(value) is not bool and abs(value) <= MOST


def short(value: float) -> str:
    """Return a number with four significant digits, in scientific form where zeros would hide it."""
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def share(value: float) -> str:
    """Return a share as a percentage: one digit after the point, two significant ones below 1 %."""
    if 0 < abs(value) < 0.01:
        return f"{100 * value:.2g} %"
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def tick_labels(ticks: Sequence[float], is_share: bool = False) -> list[str]:
    """Return the labels of an axis, with as many digits as tell its ticks apart.

    Args:
        ticks: round numbers, in equal distances or in equal ratios.
        is_share: whether they are shown as percentages.
    """
    values = [100 * tick if is_share else tick for tick in ticks]
    largest = max(map(abs, values), default=0.0)
    # What is left of 0 after a sum of floats is not a number to show.
    values = [0.0 if abs(value) < 1e-9 * largest else value for value in values]
    digits = next((d for d in range(MAX_DIGITS + 1) if _are_exact(values, d)), None)
    if digits is None or largest >= 1e6:
        labels = [short(value) for value in values]
    else:
        labels = [f"{value:,.{digits}f}" for value in values]
    return [f"{label} %" if is_share else label for label in labels]


def _are_exact(values: Sequence[float], digits: int) -> bool:
    return all(abs(round(value, digits) - value) <= 1e-6 * abs(value) for value in values)


def duration(seconds: float) -> str:
    """Return a time span in its two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours == 0:
        return f"{minutes} min {whole % 60} s"
    return f"{hours} h {minutes % 60} min" if days == 0 else f"{days} d {hours % 24} h"


def moment(text: object) -> str:
    """Return an ISO 8601 time without its seconds and its `T`; any other text as it is."""
    try:
        return datetime.fromisoformat(str(text)).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return str(text)
