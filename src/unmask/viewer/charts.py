"""A chart as inline SVG, written by hand because a page that explains a run must not need a library.

The picture is complete without the page's script, which only adds the numbers under the pointer. All
styling is by class (colours live in `report.css`), all geometry by attribute: the page's Content
Security Policy admits no style attribute.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from unmask.viewer import numbers
from unmask.viewer.markup import escape
from unmask.viewer.scales import Scale, value_scale
from unmask.viewer.series import Column, History, smooth

WIDTH, HEIGHT = 360, 168
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 22
NUM_COLOURS = 6
# About the width of a digit of a label.
CHARACTER = 6
# A curve of so few points is drawn as it is, with dots: each is a measurement.
FEW = 40

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve of a chart.

    Attributes:
        label: its name in the legend.
        column: its points.
        bounds: lower and upper end of its interval, at the same points.
    """

    label: str
    column: Column
    bounds: tuple[Column, Column] | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """What one picture shows.

    Attributes:
        title: a word or two.
        note: what it means, in a sentence.
        lines: at least one.
        is_share: whether values are shares, shown as percentages.
        is_log: whether the axis is logarithmic.
        is_stacked: whether the lines stand on each other, filled.
        is_noisy: whether a smoothed curve says more than the points; not of a schedule.
    """

    title: str
    note: str
    lines: Sequence[Line]
    is_share: bool = False
    is_log: bool = False
    is_stacked: bool = False
    is_noisy: bool = True

    def text(self, value: float) -> str:
        """Return a value as it is written beside the chart."""
        return numbers.share(value) if self.is_share else numbers.short(value)


def draw_chart(chart: Chart, curves: History, number: int) -> tuple[str, dict[str, Any]]:
    """Return a chart as a figure, and the numbers the page's script needs to read it out.

    Args:
        chart: what is shown.
        curves: whose steps the columns point into.
        number: of the chart on the page.
    """
    first, steps = curves.first_step, curves.steps
    across = Scale(first, max(steps[-1], first + 1), WIDTH - LEFT - RIGHT)
    scale = value_scale(_shown_values(chart), HEIGHT - TOP - BOTTOM, chart.is_log, chart.is_stacked)
    draw = _stack if chart.is_stacked else _lines
    grid = [*_grid(chart, scale), *_step_labels(first, steps[-1], across)]
    body = "".join([*grid, *draw(chart, steps, across, scale)])
    figure = (
        f'<figure class="card chart" data-chart="{number}"><figcaption>'
        f"<h3>{escape(chart.title)}</h3>{_legend(chart)}</figcaption>"
        f'<div class="plot"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{escape(_spoken(chart, first, steps[-1]))}">{body}</svg>'
        f'<div class="cross" hidden></div></div><p class="note">{escape(_note(chart, scale))}</p>'
        "</figure>"
    )
    return figure, _read_out(chart)


def _shown_values(chart: Chart) -> list[float]:
    """Every value the axis must make room for."""
    if chart.is_stacked:
        return [top for *_, tops in _stacked(chart.lines) for top in tops]
    shown: list[Sequence[float | None]] = []
    for line in chart.lines:
        bounds = line.bounds
        edges = (b.values for b in bounds) if bounds else (line.column.low, line.column.high)
        shown += [line.column.values, *edges]
    return [value for values in shown for value in values if value is not None]


def _grid(chart: Chart, scale: Scale) -> Iterator[str]:
    ticks = scale.ticks()
    for tick, label in zip(ticks, numbers.tick_labels(ticks, chart.is_share), strict=True):
        y = _y(scale, tick)
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield tick_text(LEFT - 6, y + 3.5, "end", label)


def _step_labels(first: int, last: int, across: Scale) -> Iterator[str]:
    """Yield the first and the last step, and round ones where they have room."""
    y, start, end = HEIGHT - 6, f"step {first:,}", f"{last:,}"
    yield tick_text(LEFT, y, "start", start)
    if last == first:
        return
    yield tick_text(WIDTH - RIGHT, y, "end", end)
    free_from, free_to = CHARACTER * len(start), across.length - CHARACTER * len(end)
    for tick in across.ticks():
        label, x = f"{tick:,.0f}", across(tick)
        half = CHARACTER * (len(label) / 2 + 1)
        if tick.is_integer() and free_from < x - half and x + half < free_to:
            yield tick_text(LEFT + x, y, "middle", label)


def tick_text(x: float, y: float, anchor: str, text: str) -> str:
    """Return the label of a tick."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="tick" {place}>{escape(text)}</text>'


def _lines(chart: Chart, steps: Sequence[int], across: Scale, scale: Scale) -> Iterator[str]:
    for index, line in enumerate(chart.lines):
        column, colour = line.column, f"c{index % NUM_COLOURS}"
        xs = [LEFT + across(steps[at]) for at in column.at]
        low, high = (bound.values for bound in line.bounds) if line.bounds else (None, None)
        if low is None or high is None:
            low, high = column.low, column.high
        if (low, high) != (column.values, column.values):
            kind = "interval" if line.bounds else "extremes"
            yield from _bands(xs, low, high, scale, f"{kind} {colour}")
        points = list(_points(xs, column.values, scale))
        if chart.is_noisy and len(xs) > FEW and not line.bounds:
            # A spike beyond the axis must not lift its whole neighbourhood to the border.
            held = [v if v is None else min(max(v, scale.low), scale.high) for v in column.values]
            yield from _curve(points, f"line raw {colour}")
            yield from _curve(list(_points(xs, smooth(held), scale)), f"line smooth {colour}")
            continue
        yield from _curve(points, f"line {colour}")
        if len(xs) <= FEW:
            yield from _dots(points, colour)


def _points(
    xs: Sequence[float], values: Sequence[float | None], scale: Scale
) -> Iterator[list[Point]]:
    """Yield the unbroken parts of a curve."""
    pairs = zip(xs, values, strict=True)
    for is_gap, part in groupby(pairs, key=lambda pair: pair[1] is None):
        if not is_gap:
            yield [(x, _y(scale, value)) for x, value in part if value is not None]


def _curve(parts: Sequence[Sequence[Point]], classes: str) -> Iterator[str]:
    drawn = "".join(f"M{_path(part)}" for part in parts if part)
    if drawn:
        yield f'<path class="{classes}" d="{drawn}"/>'


def _dots(parts: Sequence[Sequence[Point]], colour: str) -> Iterator[str]:
    for x, y in (point for part in parts for point in part):
        yield f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>'


def _bands(
    xs: Sequence[float],
    low: Sequence[float | None],
    high: Sequence[float | None],
    scale: Scale,
    classes: str,
) -> Iterator[str]:
    edges = zip(_points(xs, low, scale), _points(xs, high, scale), strict=False)
    drawn = "".join(f"M{_path([*upper, *reversed(lower)])}Z" for lower, upper in edges)
    if drawn:
        yield f'<path class="{classes}" d="{drawn}"/>'


def _stack(chart: Chart, steps: Sequence[int], across: Scale, scale: Scale) -> Iterator[str]:
    for index, (at, floors, tops) in enumerate(_stacked(chart.lines)):
        xs = [LEFT + across(steps[place]) for place in at]
        yield from _bands(xs, floors, tops, scale, f"area c{index % NUM_COLOURS}")


def _stacked(lines: Sequence[Line]) -> Iterator[tuple[list[int], list[float], list[float]]]:
    """Yield places, lower and upper edge of each layer; a stage that did not run took no time."""
    places = sorted({at for line in lines for at in line.column.at})
    floors = [0.0] * len(places)
    for line in lines:
        column = dict(zip(line.column.at, line.column.values, strict=True))
        heights = smooth([column.get(place) or 0.0 for place in places])
        tops = [floor + (height or 0.0) for floor, height in zip(floors, heights, strict=True)]
        yield places, floors, tops
        floors = tops


def _path(points: Sequence[Point]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _y(scale: Scale, value: float) -> float:
    return HEIGHT - BOTTOM - scale(value)


def _legend(chart: Chart) -> str:
    entries = "".join(
        f'<span class="entry"><i class="c{index % NUM_COLOURS}"></i>{escape(line.label)}'
        f" <b>{escape(_last(chart, line))}</b></span>"
        for index, line in enumerate(chart.lines)
    )
    return f'<p class="legend"><span class="at"></span>{entries}</p>'


def _last(chart: Chart, line: Line) -> str:
    finite = line.column.finite
    return chart.text(finite[-1]) if finite else "-"


def _spoken(chart: Chart, first: int, last: int) -> str:
    ends = ", ".join(f"{line.label} {_last(chart, line)}" for line in chart.lines)
    return f"{chart.title} from step {first} to {last}; at the end: {ends}"


def _note(chart: Chart, scale: Scale) -> str:
    said = [chart.note]
    if any(line.bounds for line in chart.lines):
        said.append("The band is a 95 % interval.")
    for line in chart.lines:
        name = f" ({line.label})" if len(chart.lines) > 1 else ""
        finite = line.column.finite
        if not chart.is_stacked and max(finite, default=scale.high) > scale.high:
            said.append(f"Off the top{name}: up to {chart.text(max(finite))}.")
        if not chart.is_log and min(finite, default=scale.low) < scale.low:
            said.append(f"Off the bottom{name}: down to {chart.text(min(finite))}.")
        if lost := line.column.num_lost:
            said.append(f"Not finite{name} at {lost:,} step{'s'[: lost != 1]}.")
    return " ".join(part for part in said if part)


def _read_out(chart: Chart) -> dict[str, Any]:
    """Return what the script needs: where the plot lies in the picture, and each line's points."""
    return {
        "left": LEFT / WIDTH,
        "right": 1 - RIGHT / WIDTH,
        "is_share": chart.is_share,
        "lines": [
            {
                # None stands for "at every step": most metrics are, and the list would repeat it.
                "at": None if _is_dense(line.column) else line.column.at,
                "values": [
                    None if value is None else float(f"{value:.4g}") for value in line.column.values
                ],
            }
            for line in chart.lines
        ],
    }


def _is_dense(column: Column) -> bool:
    return column.at == tuple(range(len(column.at)))
