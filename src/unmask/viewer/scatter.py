"""A picture of a few measured points, each with its interval both ways: what accuracy costs in speed.

Drawn as `charts` draws its curves: inline SVG, styled by class, complete without a script.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unmask.viewer import numbers
from unmask.viewer.charts import BOTTOM, HEIGHT, LEFT, NUM_COLOURS, RIGHT, TOP, WIDTH, tick_text
from unmask.viewer.markup import escape
from unmask.viewer.scales import Scale, value_scale

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Mark:
    """One point.

    Attributes:
        label: its name in the legend.
        x: its place.
        y: its value, a share.
        x_interval: 95 % interval of the place.
        y_interval: 95 % interval of the value.
    """

    label: str
    x: float
    y: float
    x_interval: Interval
    y_interval: Interval


def draw_scatter(title: str, note: str, marks: Sequence[Mark]) -> str:
    """Return points as a figure.

    Args:
        title: a word or two.
        note: what the axes are, in a sentence.
        marks: at least one.
    """
    across = value_scale(
        [x for m in marks for x in (m.x, *m.x_interval)], WIDTH - LEFT - RIGHT, is_from_zero=True
    )
    up = value_scale([y for m in marks for y in (m.y, *m.y_interval)], HEIGHT - TOP - BOTTOM)
    body = "".join([*_axes(across, up), *_marks(marks, across, up)])
    legend = "".join(
        f'<span class="entry"><i class="c{index % NUM_COLOURS}"></i>{escape(mark.label)}'
        f" <b>{escape(numbers.share(mark.y))}</b></span>"
        for index, mark in enumerate(marks)
    )
    spoken = ", ".join(f"{m.label}: {numbers.share(m.y)} at {numbers.short(m.x)}" for m in marks)
    return (
        f'<figure class="card"><figcaption><h3>{escape(title)}</h3>'
        f'<p class="legend">{legend}</p></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(spoken)}">{body}</svg>'
        f'<p class="note">{escape(note)}</p></figure>'
    )


def _axes(across: Scale, up: Scale) -> Iterator[str]:
    ticks = up.ticks()
    for tick, label in zip(ticks, numbers.tick_labels(ticks, is_share=True), strict=True):
        y = HEIGHT - BOTTOM - up(tick)
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield tick_text(LEFT - 6, y + 3.5, "end", label)
    ticks = across.ticks()
    for tick, label in zip(ticks, numbers.tick_labels(ticks), strict=True):
        yield tick_text(LEFT + across(tick), HEIGHT - 6, "middle", label)


def _marks(marks: Sequence[Mark], across: Scale, up: Scale) -> Iterator[str]:
    for index, mark in enumerate(marks):
        colour = f"c{index % NUM_COLOURS}"
        x, y = LEFT + across(mark.x), HEIGHT - BOTTOM - up(mark.y)
        left, right = (LEFT + across(end) for end in mark.x_interval)
        low, high = (HEIGHT - BOTTOM - up(end) for end in mark.y_interval)
        yield (
            f'<path class="whisker {colour}" '
            f'd="M{left:.1f} {y:.1f}H{right:.1f}M{x:.1f} {low:.1f}V{high:.1f}"/>'
        )
        yield f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.4"/>'
