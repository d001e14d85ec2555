"""The picture of `methods.py`: held-out accuracy against RL steps and against CPU seconds.

One row per task. Lines are means over the seeds that all lines of a panel have; by CPU seconds each
seed's curve is read off on straight lines between its evaluations, up to where the first run ends.
Intervals are in the tables: bands of a few seeds would cover the lines.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from methods_report import (
    LABELS,
    METHODS,
    SHRINKS,
    Runs,
    accuracy_at,
    full_curve,
    runs_by_task,
    shared_seeds,
)

from unmask.runs.format import format_number, format_share
from unmask.viewer.markup import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 300, 190, 44, 34, 22
COLOURS = {
    "trace": "#2563b8",
    "value": "#e08a00",
    "coupled": "#0f8a6b",
    "random": "#b8456b",
    "shrink2": "#7a5ac2",
    "shrink4": "#0f8a6b",
}
POINTS = 24
NUM_TICKS = 5
Line = Sequence[tuple[float, float]]  # place, accuracy
Scale = Callable[[float], float]  # number to coordinate


def draw(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the picture as SVG that needs nothing else."""
    panels: list[str] = []
    found = runs_by_task(runs)
    columns = (
        ("by RL step", METHODS, "step"),
        ("by CPU seconds of training", METHODS, "cpu_s"),
        ("TraceRL by s, CPU seconds", SHRINKS, "cpu_s"),
    )
    for row, (task, of_task) in enumerate(found.items()):
        for column, (title, variants, axis) in enumerate(columns):
            lines = mean_lines(of_task, variants, axis)
            place = f"translate({column * (WIDTH + 12)} {row * (HEIGHT + 12)})"
            panels.append(f'<g transform="{place}">{_panel(f"{task}, {title}", lines)}</g>')
    width, height = len(columns) * (WIDTH + 12), len(found) * (HEIGHT + 12)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" font-size="10">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(panels)}</svg>\n'
    )


def mean_lines(of_task: Mapping[str, Runs], variants: Sequence[str], axis: str) -> dict[str, Line]:
    """Return a line for each variant, over the seeds that all of them have."""
    seeds = shared_seeds(of_task, variants)
    curves = {
        variant: [full_curve(of_task[variant][seed], of_task) for seed in seeds]
        for variant in variants
        if seeds
    }
    last = min((curve[-1][axis] for of in curves.values() for curve in of), default=0.0)
    places = [last * number / POINTS for number in range(POINTS + 1)]
    return {
        variant: [(at, fmean(accuracy_at(curve, axis, at) for curve in of)) for at in places]
        for variant, of in curves.items()
    }


def _panel(title: str, lines: Mapping[str, Line]) -> str:
    parts = [f'<text x="{LEFT}" y="12" font-weight="600">{escape(title)}</text>']
    if not lines:
        return "".join([*parts, f'<text x="{LEFT}" y="40">not measured yet</text>'])
    points = [point for line in lines.values() for point in line]
    lasts, accuracies = zip(*points, strict=True)
    across, x_ticks = _scale(0.0, max(lasts), LEFT, WIDTH - 8)
    up, y_ticks = _scale(min(accuracies), max(accuracies), HEIGHT - BOTTOM, TOP)
    parts += _axes(across, up, x_ticks, y_ticks)
    for index, (variant, line) in enumerate(lines.items()):
        parts.append(_drawn(line, across, up, COLOURS[variant]))
        parts.append(_entry(index, variant))
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


def _drawn(line: Line, across: Scale, up: Scale, colour: str) -> str:
    points = (f"{across(at):.1f} {up(value):.1f}" for at, value in line)
    return f'<path d="M{"L".join(points)}" fill="none" stroke="{colour}" stroke-width="1.6"/>'


def _entry(index: int, variant: str) -> str:
    x, y = LEFT + index % 2 * 124, HEIGHT - 12 + index // 2 * 11
    return (
        f'<path d="M{x} {y - 3}h10" stroke="{COLOURS[variant]}" stroke-width="2.5"/>'
        f'<text x="{x + 14}" y="{y}">{escape(LABELS[variant])}</text>'
    )
