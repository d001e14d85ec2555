"""The picture of `methods.py`: held-out accuracy against RL steps and against CPU seconds.

One row per task. Lines are means over the seeds that all lines of a panel have; by CPU seconds each
seed's curve is read off on straight lines between its evaluations, up to where the first run ends.
The band is a 95 % interval of the lead over TraceRL (paired by seed), laid around the line.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from methods_report import (
    LABELS,
    METHODS,
    SHRINKS,
    Runs,
    accuracy_at,
    full_curve,
    mean_and_half,
    runs_by_task,
    shared_seeds,
)

from unmask.viewer.markup import escape
from unmask.viewer.numbers import tick_labels
from unmask.viewer.scales import Scale, value_scale

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 300, 190, 44, 34, 22
COLOURS = ("#e08a00", "#2563b8", "#0f8a6b", "#b8456b")
POINTS = 24
Line = Sequence[tuple[float, float, float]]  # place, accuracy, half of the interval


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
    return {variant: _line(of, curves["trace"], axis, places) for variant, of in curves.items()}


def _line(
    curves: Sequence[Sequence[Mapping[str, float]]],
    trace: Sequence[Sequence[Mapping[str, float]]],
    axis: str,
    places: Sequence[float],
) -> Line:
    points: list[tuple[float, float, float]] = []
    for place in places:
        values = [accuracy_at(curve, axis, place) for curve in curves]
        others = [accuracy_at(curve, axis, place) for curve in trace]
        leads = [value - other for value, other in zip(values, others, strict=True)]
        points.append((place, fmean(values), mean_and_half(leads)[1] or 0.0))
    return points


def _panel(title: str, lines: Mapping[str, Line]) -> str:
    parts = [f'<text x="{LEFT}" y="12" font-weight="600">{escape(title)}</text>']
    if not lines:
        return "".join([*parts, f'<text x="{LEFT}" y="40">not measured yet</text>'])
    points = [point for line in lines.values() for point in line]
    across = Scale(0.0, max(place for place, *_ in points), WIDTH - LEFT - 8)
    # Half intervals are left to run off the panel: with few seeds they would press the lines flat.
    up = value_scale([accuracy for _, accuracy, _ in points], HEIGHT - TOP - BOTTOM)
    parts += [*_axes(across, up)]
    for index, (variant, line) in enumerate(lines.items()):
        parts.append(_drawn(line, across, up, COLOURS[index]))
        parts.append(_entry(index, LABELS[variant]))
    return "".join(parts)


def _axes(across: Scale, up: Scale) -> list[str]:
    foot = HEIGHT - BOTTOM
    parts: list[str] = []
    for tick, label in zip(up.ticks(), tick_labels(up.ticks(), is_share=True), strict=True):
        y = foot - up(tick)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 8}" stroke="#e1e5ea"/>')
        parts.append(f'<text x="{LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{label}</text>')
    for tick, label in zip(across.ticks(), tick_labels(across.ticks()), strict=True):
        x = LEFT + across(tick)
        parts.append(f'<text x="{x:.1f}" y="{foot + 12}" text-anchor="middle">{label}</text>')
    return parts


def _drawn(line: Line, across: Scale, up: Scale, colour: str) -> str:
    def point(place: float, accuracy: float) -> str:
        return f"{LEFT + across(place):.1f} {HEIGHT - BOTTOM - up(accuracy):.1f}"

    top = [point(place, accuracy + half) for place, accuracy, half in line]
    low = [point(place, accuracy - half) for place, accuracy, half in reversed(line)]
    middle = "L".join(point(place, accuracy) for place, accuracy, _ in line)
    return (
        f'<path d="M{"L".join([*top, *low])}Z" fill="{colour}" opacity="0.12"/>'
        f'<path d="M{middle}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
    )


def _entry(index: int, label: str) -> str:
    x, y = LEFT + index % 2 * 124, HEIGHT - 12 + index // 2 * 11
    return (
        f'<path d="M{x} {y - 3}h10" stroke="{COLOURS[index]}" stroke-width="2.5"/>'
        f'<text x="{x + 14}" y="{y}">{escape(label)}</text>'
    )
