"""LLaDA-V's prompts and splice against the published code, and splices of toy vectors."""

import json
from typing import Any

import pytest
import torch
from PIL import Image as pillow
from safetensors.torch import load_file
from torch import Tensor

from tests.models.toy import GOLDEN
from tests.models.vision.lladav import vision_side
from unmask.checkpoints.tokenizer import encode, load_tokenizer, render_text
from unmask.images import Image
from unmask.models.families.lladav import SYSTEM
from unmask.models.vision.lladav_prompt import (
    IMAGE_ID,
    expanded,
    joined_pieces,
    text_pieces,
)
from unmask.types import Message, PromptImage

FOLDER = GOLDEN / "lladav"
CASES: dict[str, Any] = json.loads((FOLDER / "cases.json").read_text())
START = CASES["special_ids"]["<|startoftext|>"]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    return load_file(FOLDER / "expected.safetensors")


def prompt_ids(text: str, num_images: int, drops_first: bool = True) -> list[int]:
    tokenizer = load_tokenizer(FOLDER)
    pieces = [encode(piece, tokenizer) for piece in text_pieces(text, num_images)]
    return joined_pieces(pieces, START, drops_first)


def test_published_prompt(recorded: dict[str, Tensor]) -> None:
    """The conversation through the chat template, and its token ids without the line break."""
    image = Image("wide.png", b"content")
    messages = Message("system", SYSTEM), Message.of("user", image, CASES["question"])
    assert render_text(messages, load_tokenizer(FOLDER)) == CASES["prompt"]
    assert prompt_ids(CASES["prompt"], 1) == recorded["prompt_ids"].tolist()


def test_the_line_break_can_be_kept(recorded: dict[str, Tensor]) -> None:
    found, published = prompt_ids(CASES["prompt"], 1, False), recorded["prompt_ids"].tolist()
    place = published.index(IMAGE_ID) + 1
    (line_break,) = encode("\n", load_tokenizer(FOLDER))
    assert found == [*published[:place], line_break, *published[place:]]


def test_nothing_is_dropped_without_a_start_token(recorded: dict[str, Tensor]) -> None:
    text = "<image>\n<image>\nIs it an owl?"
    assert prompt_ids(text, 2) == recorded["ids_two_images_no_bos"].tolist()


@torch.no_grad()
def test_published_splice(recorded: dict[str, Tensor]) -> None:
    vision = vision_side()
    vectors = vision(
        [vision.encode(vision.tiles(pillow.fromarray(recorded["wide_photo"].numpy())))]
    )
    ids = expanded(recorded["prompt_ids"].tolist(), [PromptImage(b"wide", len(vectors))])
    table = load_file(FOLDER / "model.safetensors")["model.embed_tokens.weight"]
    # A negative id counts from the end of the vectors in reverse order.
    found = torch.cat((table, vectors.flip(0)))[list(ids)]
    assert found.shape == recorded["wide_inputs_embeds"].shape
    assert (found - recorded["wide_inputs_embeds"]).abs().max() < 2e-4


@pytest.mark.parametrize(("row", "name"), [(0, "wide"), (1, "small")])
def test_published_rows_of_several_lengths(
    recorded: dict[str, Tensor], row: int, name: str
) -> None:
    """Text stands where the published labels of the two rows have it."""
    prompt = recorded["prompt_ids"].tolist()
    ids = expanded(prompt, [PromptImage(b"", len(recorded[f"{name}_image_features"]))])
    assert len(ids) == recorded["pair_row_lengths"][row]
    labels = [token if token >= 0 else -100 for token in ids]
    labels[:10] = [-100] * 10
    expected = recorded["pair_labels"][row]
    assert labels == expected[: len(ids)].tolist()
    assert expected[len(ids) :].eq(-100).all()


def test_ids_of_several_images() -> None:
    images = PromptImage(b"a", 3), PromptImage(b"b", 2)
    ids = expanded([5, IMAGE_ID, 6, IMAGE_ID], images)
    assert ids == (5, -1, -2, -3, 6, -4, -5)
    assert expanded([IMAGE_ID], [PromptImage(b"a", 200)])[-1] == IMAGE_ID  # its last vector's id


def test_refuses_other_numbers_of_images() -> None:
    with pytest.raises(ValueError, match="the text has 1 <image> for 2 images"):
        text_pieces("<image>?", 2)
    for images in ([], [PromptImage(b"a", 1)] * 2):
        with pytest.raises(ValueError, match=f"places for 1 images, and there are {len(images)}"):
            expanded([5, IMAGE_ID], images)
