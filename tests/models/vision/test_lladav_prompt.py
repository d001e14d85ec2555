"""LLaDA-V's prompts and splice against the published code, and splices of toy vectors."""

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image as pillow
from safetensors.torch import load_file
from torch import Tensor

from tests.models.toy import GOLDEN
from unmask.checkpoints.tokenizer import encode, load_tokenizer, render_text
from unmask.checkpoints.vision_files import load_lladav_vision
from unmask.images import Image
from unmask.models.vision.lladav_prompt import (
    IMAGE_ID,
    SYSTEM,
    Patches,
    expanded,
    joined_pieces,
    lay_patches,
    patches_of,
    text_pieces,
)
from unmask.types import ImageSpan, Message

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
    vision = load_lladav_vision(FOLDER)
    vectors = vision(vision.tiles(pillow.fromarray(recorded["wide_photo"].numpy())))
    ids, spans = expanded(recorded["prompt_ids"].tolist(), [(b"wide", len(vectors))], 0)
    table = load_file(FOLDER / "model.safetensors")["model.embed_tokens.weight"]
    embedded = F.embedding(torch.tensor(ids), table)
    found = lay_patches(embedded, patches_of(spans, [vectors]))
    assert found.shape == recorded["wide_inputs_embeds"].shape
    assert (found - recorded["wide_inputs_embeds"]).abs().max() < 2e-4


@pytest.mark.parametrize(("row", "name"), [(0, "wide"), (1, "small")])
def test_published_rows_of_several_lengths(
    recorded: dict[str, Tensor], row: int, name: str
) -> None:
    """Text stands where the published labels of the two rows have it."""
    prompt = recorded["prompt_ids"].tolist()
    ids, _ = expanded(prompt, [(b"", len(recorded[f"{name}_image_features"]))], -100)
    assert len(ids) == recorded["pair_row_lengths"][row]
    labels = [token if token in prompt else -100 for token in ids]
    labels[:10] = [-100] * 10
    expected = recorded["pair_labels"][row]
    assert labels == expected[: len(ids)].tolist()
    assert expected[len(ids) :].eq(-100).all()


def test_places_of_several_images() -> None:
    ids, spans = expanded([5, IMAGE_ID, 6, IMAGE_ID], [(b"a", 2), (b"b", 1)], 9)
    assert ids == (5, 9, 9, 6, 9)
    assert spans == (ImageSpan(1, 2, b"a"), ImageSpan(4, 1, b"b"))
    vectors = [torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0]])]
    patches = patches_of(spans, vectors, offset=1)
    found = lay_patches(torch.zeros(7, 1), patches)
    assert found.flatten().tolist() == [0, 0, 1, 2, 0, 3, 0]


def test_gradients_reach_embeddings_and_vectors() -> None:
    embedded, vectors = torch.zeros(3, 2, requires_grad=True), torch.ones(1, 2, requires_grad=True)
    lay_patches(embedded, Patches(torch.tensor([1]), vectors)).sum().backward()
    assert embedded.grad is not None and embedded.grad[:, 0].tolist() == [1, 0, 1]
    assert vectors.grad is not None and vectors.grad.tolist() == [[1, 1]]


def test_refuses_other_numbers_of_images_and_vectors() -> None:
    with pytest.raises(ValueError, match="the text has 1 <image> for 2 images"):
        text_pieces("<image>?", 2)
    for images in ([], [(b"a", 1), (b"b", 1)]):
        with pytest.raises(ValueError, match=f"places for 1 images, and there are {len(images)}"):
            expanded([5, IMAGE_ID], images, 9)
    with pytest.raises(ValueError, match="position 1 has 3 vectors for 2 positions"):
        patches_of([ImageSpan(1, 2, b"a")], [torch.zeros(3, 1)])
