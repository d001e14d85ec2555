"""The drawing of a canvas: tokens where they are revealed, hidden positions, edits, long texts."""

import io
from collections.abc import Sequence

import pytest
import torch
from rich.console import Console

from unmask.cli.canvas_text import CanvasText, drawn, printable
from unmask.diffusion.conventions import Conventions
from unmask.engine.events import Written
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt

MASK = 1
BLOCKS, FULL = (Conventions(MASK, torch.ones(9, dtype=torch.bool), full) for full in (False, True))


def letters(ids: Sequence[int]) -> str:
    return "".join(chr(ord("a") + token) for token in ids)


def canvas_of(num_prompt: int = 6, conventions: Conventions = BLOCKS) -> CanvasText:
    prompt = Prompt("t", 0, (), (5,) * num_prompt)
    return CanvasText(prompt, SamplingParams(block_size=4, max_tokens=10), conventions)


def written(step: int, tokens: dict[int, int]) -> Written:
    numbers = (-0.5,) * len(tokens)
    return Written(0, step, tuple(tokens), tuple(tokens.values()), numbers, numbers)


def test_blocks_open_as_they_are_written() -> None:
    canvas = canvas_of()
    assert canvas.draw(letters).plain == "░░", "the prompt holds two positions of the first block"
    canvas.take(written(1, {1: 3}))
    assert canvas.draw(letters).plain == "░d"
    canvas.take(written(2, {0: 4}))
    canvas.take(written(3, {4: 5}))
    assert canvas.draw(letters).plain == "ed░░f░"


def test_under_full_attention_the_whole_canvas_is_open() -> None:
    canvas = canvas_of(conventions=FULL)
    canvas.take(written(1, {8: 3}))
    assert canvas.draw(letters).plain == "░" * 8 + "d░"


def test_new_tokens_are_bold_once_and_hidden_ones_dim() -> None:
    canvas = canvas_of()
    canvas.take(written(1, {0: 3}))
    spans = [(span.start, span.end, span.style) for span in canvas.draw(letters).spans]
    assert spans == [(0, 1, "bold"), (1, 2, "dim")]
    assert [span.style for span in canvas.draw(letters).spans] == ["dim"]


def test_edits_replace_tokens_and_new_masks_hide_them() -> None:
    canvas = canvas_of()
    canvas.take(written(1, {0: 3, 1: 4}))
    canvas.take(written(2, {0: 5, 1: MASK}))
    assert canvas.draw(letters).plain == "f░"


def test_control_characters_are_drawn_as_pictures() -> None:
    canvas = canvas_of()
    canvas.take(written(1, {0: 3}))
    assert canvas.draw(lambda ids: "\x1b[31m\x07").plain == "␛[31m␇░"
    assert printable("a\tb\r\n\x9b") == "a   b␍\n�"


@pytest.mark.parametrize("is_utf8", [True, False])
def test_the_drawing_keeps_the_end_of_a_long_text_and_is_removed(is_utf8: bool) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8" if is_utf8 else "ascii")
    console = Console(file=file, force_terminal=True, width=20, height=5)
    canvas = canvas_of()
    with drawn(canvas, lambda ids: "\n".join("PQRSTUVW"), console) as take:
        take(written(1, {0: 3}))
    file.seek(0)
    output = file.read()
    assert "T" not in output and "U" in output and "W" in output
    assert ("░" if is_utf8 else ".") in output
    assert output.rindex("\x1b[2K") > output.rindex("W"), "the last lines are erased"
