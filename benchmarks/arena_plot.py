"""The curves of an arena's task as SVG: held-out accuracy against rollouts, forwarded tokens and CPU seconds.

Lines are means over seeds, each up to where the first of its runs ends. Intervals are in the tables: bands of a
few seeds would cover the lines. A line's `<title>` is the name of its method.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from unmask.runs.format import format_number, format_share
from unmask.viewer.markup import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, LEGEND = 330, 300, 44, 24, 22, 170
NUM_TICKS = 5
TITLES = {"rollouts": "rollouts", "tokens": "forwarded tokens", "cpu_s": "CPU seconds"}
DASHES = ("", "6 2", "2 2")
Line = Sequence[tuple[float, float]]  # place, accuracy
Scale = Callable[[float], float]  # number to coordinate


def draw(task: str, axes: Mapping[str, Mapping[str, Line]]) -> str:
    """Return the picture of a task: one panel for each axis, and one legend."""
    panels = "".join(
        f'<g transform="translate({number * (WIDTH + 12)} 0)">'
        f"{_panel(f'{task}, by {TITLES[axis]}', lines)}</g>"
        for number, (axis, lines) in enumerate(axes.items())
    )
    names = list(dict.fromkeys(name for lines in axes.values() for name in lines))
    entries = "".join(_entry(number, name) for number, name in enumerate(names))
    left = len(axes) * (WIDTH + 12)
    width, height = left + LEGEND, max(HEIGHT, TOP + 14 * len(names) + 8)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" font-size="10">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{panels}'
        f'<g transform="translate({left} 0)">{entries}</g></svg>\n'
    )


def stroke(number: int) -> str:
    """Return the attributes of the line of a number: colours repeat with another dash."""
    hue, dash = number * 137.5 % 360, DASHES[number % len(DASHES)]
    return f'stroke="hsl({hue:.0f} 65% 40%)" stroke-dasharray="{dash}" fill="none"'


def _panel(title: str, lines: Mapping[str, Line]) -> str:
    parts = [f'<text x="{LEFT}" y="12" font-weight="600">{escape(title)}</text>']
    points = [point for line in lines.values() for point in line]
    if not points:
        return "".join([*parts, f'<text x="{LEFT}" y="40">not measured yet</text>'])
    places, accuracies = zip(*points, strict=True)
    across, x_ticks = _scale(0.0, max(places), LEFT, WIDTH - 8)
    up, y_ticks = _scale(min(accuracies), max(accuracies), HEIGHT - BOTTOM, TOP)
    parts += _axes(across, up, x_ticks, y_ticks)
    for number, (name, line) in enumerate(lines.items()):
        path = "L".join(f"{across(at):.1f} {up(value):.1f}" for at, value in line)
        parts.append(
            f'<path d="M{path}" {stroke(number)} stroke-width="1.4"><title>{escape(name)}</title></path>'
        )
    return "".join(parts)


def _scale(low: float, high: float, first: float, last: float) -> tuple[Scale, list[float]]:
    """Return the map of low..high to first..last in the picture, and round numbers in between."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / NUM_TICKS))
    step = next(power * part for part in (1, 2, 5, 10) if span / NUM_TICKS <= power * part)
    ticks = [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return lambda value: first + (value - low) / span * (last - first), ticks


def _axes(
    across: Scale, up: Scale, x_ticks: Sequence[float], y_ticks: Sequence[float]
) -> list[str]:
    parts: list[str] = []
    for tick in y_ticks:
        y, label = up(tick), format_share(tick)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 8}" stroke="#e1e5ea"/>')
        parts.append(f'<text x="{LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{label}</text>')
    for tick in x_ticks:
        place = f'x="{across(tick):.1f}" y="{HEIGHT - BOTTOM + 12}" text-anchor="middle"'
        parts.append(f"<text {place}>{format_number(tick)}</text>")
    return parts


def _entry(number: int, name: str) -> str:
    y = TOP + 14 * number
    return (
        f'<path d="M0 {y}h18" {stroke(number)} stroke-width="2"/>'
        f'<text x="24" y="{y + 3}">{escape(name)}</text>'
    )
