"""A histogram: how many responses are how long, the right ones below the others.

Drawn as `charts` draws its curves: inline SVG, styled by class, complete without a script.
"""

from collections.abc import Sequence

from unmask.viewer import numbers
from unmask.viewer.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, tick_text
from unmask.viewer.markup import escape
from unmask.viewer.scales import value_scale

# First and last length, how many right responses, how many others.
Bar = tuple[int, int, int, int]


def draw_bars(title: str, note: str, bars: Sequence[Bar]) -> str:
    """Return a histogram as a figure; at least one bar must be higher than 0."""
    up = value_scale(
        [right + others for *_, right, others in bars], HEIGHT - TOP - BOTTOM, False, True
    )
    width = (WIDTH - LEFT - RIGHT) / len(bars)
    body: list[str] = []
    ticks = [tick for tick in up.ticks() if tick.is_integer()]
    for tick, label in zip(ticks, numbers.tick_labels(ticks), strict=True):
        y = HEIGHT - BOTTOM - up(tick)
        body.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        body.append(tick_text(LEFT - 6, y + 3.5, "end", label))
    for place, (first, last, right, others) in enumerate(bars):
        x, floor, top = LEFT + place * width, up(right), up(right + others)
        said = f"{first} to {last} tokens: {right} right, {others} others"
        body.append(
            f"<g><title>{said}</title>{_bar(x, width, 0, floor, 'c2')}"
            f"{_bar(x, width, floor, top, 'c3')}</g>"
        )
    body.append(tick_text(LEFT, HEIGHT - 6, "start", f"{bars[0][0]:,}"))
    body.append(tick_text(WIDTH - RIGHT, HEIGHT - 6, "end", f"{bars[-1][1]:,} tokens"))
    legend = "".join(
        f'<span class="entry"><i class="{colour}"></i>{name}</span>'
        for name, colour in (("right", "c2"), ("others", "c3"))
    )
    return (
        f'<figure class="card"><figcaption><h3>{escape(title)}</h3>'
        f'<p class="legend">{legend}</p></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f'{"".join(body)}</svg><p class="note">{escape(note)}</p></figure>'
    )


def _bar(x: float, width: float, floor: float, top: float, colour: str) -> str:
    place = f'x="{x + 0.5:.1f}" y="{HEIGHT - BOTTOM - top:.1f}"'
    size = f'width="{max(width - 1, 0.5):.1f}" height="{top - floor:.1f}"'
    return f'<rect class="area {colour}" {place} {size}/>'
