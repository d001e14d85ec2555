"""A trajectory as an animated SVG: a picture for a README, slides or a paper, which plays without a script.

Each token stands in a cell as wide as its text, masked until the denoising step that wrote it. The cells of
one step appear together, in the step's colour; the whole is repeated. Tokens that were rewritten later are
shown as they stand at the end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from unmask.viewer.markup import escape

SECONDS_PER_STEP, HOLD_SECONDS = 0.4, 3.0
COLUMNS = 72  # of a line, in characters
WIDTH, HEIGHT, MARGIN = 8.4, 26, 16  # of a character, of a line, around all; in pixels
STYLE = """
svg { background: #fff; font: 14px ui-monospace, Menlo, Consolas, monospace; }
text { white-space: pre; fill: #1a1e24; }
.muted { fill: #5b6675; }
.mask { fill: #d3d9e1; }
.c0 { fill: #bcd4f5; } .c1 { fill: #ffdca3; } .c2 { fill: #b4e6d5; } .c3 { fill: #f5c6d8; } .c4 { fill: #d9cdf5; }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; } text { fill: #e4e8ed; } .muted { fill: #9aa6b5; } .mask { fill: #333c48; }
  .c0 { fill: #234a7d; } .c1 { fill: #75500d; } .c2 { fill: #12604b; } .c3 { fill: #75304b; } .c4 { fill: #4a3a7d; }
}
"""
NUM_COLOURS = 5
# Characters that no XML document may hold.
NOT_XML = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF), "\ufffd")


@dataclass(frozen=True, slots=True)
class Cell:
    """A token on the picture.

    Attributes:
        text: of the token, with a sign for a line break.
        step: number of its denoising step among those of the response, from 1; 0 where it was given.
        column: of its first character.
        line: of the text.
    """

    text: str
    step: int
    column: int
    line: int


def animated_svg(trajectory: dict[str, Any]) -> str:
    """Return the picture.

    Args:
        trajectory: the result of `viewer.traces.shown`.
    """
    cells = list(_cells(trajectory))
    num_steps = max(cell.step for cell in cells)
    seconds = num_steps * SECONDS_PER_STEP + HOLD_SECONDS
    asked = trajectory["messages"][-1]["content"] if trajectory["messages"] else ""
    prompt = _lines(asked)
    top = MARGIN + len(prompt) * HEIGHT
    width = 2 * MARGIN + COLUMNS * WIDTH
    height = top + (cells[-1].line + 2) * HEIGHT + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img"><title>{escape(trajectory["text"].translate(NOT_XML))}</title>',
        f"<style>{STYLE}{_keyframes(num_steps, seconds)}</style>",
        *(
            _text(line, MARGIN, MARGIN + (n + 0.7) * HEIGHT, "muted")
            for n, line in enumerate(prompt)
        ),
        *(_cell(cell, top) for cell in cells),
    ]
    below = top + (cells[-1].line + 1.9) * HEIGHT
    written = [sum(0 < cell.step <= step for cell in cells) for step in range(num_steps + 1)]
    for step, count in enumerate(written):
        label = f"denoising step {step} of {num_steps}: {count} of {written[-1]} tokens"
        parts.append(f'<g class="n{step}">{_text(label, MARGIN, below, "muted")}</g>')
    return "".join((*parts, "</svg>\n"))


def _cells(trajectory: dict[str, Any]) -> Iterator[Cell]:
    """Yield the response's tokens, broken into lines."""
    num_tail, count = len(trajectory["tail"]), trajectory["num_response"]
    pieces: Sequence[str] = trajectory["pieces"] or [
        str(one) for one in (*trajectory["tail"], *trajectory["ids"])
    ]
    steps = trajectory["steps"][:count]
    number = {step: n for n, step in enumerate(sorted({step for step in steps if step > 0}), 1)}
    used, line = 0, 0
    for piece, step in zip(pieces[num_tail : num_tail + count], steps, strict=True):
        text = piece.replace("\n", "\u23ce")
        text = text if len(text) <= COLUMNS else f"{text[: COLUMNS - 1]}\u2026"
        if used + len(text) > COLUMNS:
            used, line = 0, line + 1
        yield Cell(text, number.get(step, 0), used, line)
        used += max(len(text), 1)
        if piece.endswith("\n"):
            used, line = 0, line + 1


def _lines(text: str) -> list[str]:
    """Return a text in lines of at most `COLUMNS` characters."""
    return [
        line[start : start + COLUMNS]
        for line in text.splitlines()
        for start in range(0, max(len(line), 1), COLUMNS)
    ]


def _cell(cell: Cell, top: float) -> str:
    x, y = MARGIN + cell.column * WIDTH, top + cell.line * HEIGHT
    size = f'x="{x:.1f}" y="{y + 3:.1f}" width="{max(len(cell.text), 1) * WIDTH - 1:.1f}" height="{HEIGHT - 6}" rx="3"'
    token = _text(cell.text, x, y + 0.7 * HEIGHT)
    if not cell.step:
        return token
    colour = f"c{(cell.step - 1) % NUM_COLOURS}"
    return f'<rect class="mask" {size}/><g class="s{cell.step}"><rect class="{colour}" {size}/>{token}</g>'


def _text(text: str, x: float, y: float, style: str = "") -> str:
    text = text.translate(NOT_XML)
    named = f' class="{style}"' if style else ""
    length = f' textLength="{len(text) * WIDTH:.1f}"' if text.strip() else ""
    return (
        f'<text{named} x="{x:.1f}" y="{y:.1f}"{length} xml:space="preserve">{escape(text)}</text>'
    )


def _keyframes(num_steps: int, seconds: float) -> str:
    """Return the style that shows each step's cells from its time on, and its count until the next."""
    rules: list[str] = []
    for step in range(num_steps + 1):
        start = 100 * step * SECONDS_PER_STEP / seconds
        end = 100.0 if step == num_steps else 100 * (step + 1) * SECONDS_PER_STEP / seconds
        rules.append(
            f"@keyframes s{step} {{ 0% {{ opacity: 0; }} {start:.3f}%, 100% {{ opacity: 1; }} }}"
        )
        rules.append(
            f"@keyframes n{step} {{ 0% {{ opacity: {int(step == 0)}; }} {start:.3f}% {{ opacity: 1; }} "
            f"{end:.3f}%, 100% {{ opacity: {int(step == num_steps)}; }} }}"
        )
        rules += [
            f".{kind}{step} {{ animation: {kind}{step} {seconds:.2f}s step-end infinite; }}"
            for kind in "sn"
        ]
    return "\n".join(rules)
