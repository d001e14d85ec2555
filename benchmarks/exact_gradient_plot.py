"""The picture of `exact_gradient.py`: expected reward along a line, and what its gradient explains of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from unmask.viewer.markup import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 300, 190, 40, 34, 22
LINES = {"reward": "#2563b8", "explained": "#e08a00"}
WORDS = {"reward": "expected reward", "explained": "integral of its gradient"}


def draw(jumps: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the picture as SVG that needs nothing else, a panel for each rule."""
    panels = [
        f'<g transform="translate({number * (WIDTH + 12)} 0)">{_panel(name, found)}</g>'
        for number, (name, found) in enumerate(jumps.items())
    ]
    width = len(panels) * (WIDTH + 12)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="10">'
        f'<rect width="{width}" height="{HEIGHT}" fill="#fff"/>{"".join(panels)}</svg>\n'
    )


def _panel(name: str, found: Mapping[str, Any]) -> str:
    lines: dict[str, Sequence[float]] = {key: found[key] for key in LINES}
    values = [value for line in lines.values() for value in line]
    low, high = min(values), max(values)
    bottom, right = HEIGHT - BOTTOM, WIDTH - 8

    def place(number: int, value: float) -> str:
        x = LEFT + (right - LEFT) * number / (len(lines["reward"]) - 1)
        y = bottom - (bottom - TOP) * (value - low) / ((high - low) or 1)
        return f"{x:.1f},{y:.1f}"

    parts = [f'<text x="{LEFT}" y="14" font-weight="600">{escape(name)}</text>']
    for value, y in ((low, bottom), (high, TOP)):
        parts.append(f'<text x="{LEFT - 4}" y="{y + 3}" text-anchor="end">{value:.2f}</text>')
        parts.append(f'<path d="M{LEFT} {y}H{right}" stroke="#ddd"/>')
    for number, (key, line) in enumerate(lines.items()):
        points = " ".join(place(i, value) for i, value in enumerate(line))
        colour = LINES[key]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
        x = LEFT + number * 110
        parts.append(f'<text x="{x}" y="{HEIGHT - 6}" fill="{colour}">{WORDS[key]}</text>')
    parts.append(f'<text x="{right}" y="{bottom + 14}" text-anchor="end">along the line</text>')
    return "".join(parts)
