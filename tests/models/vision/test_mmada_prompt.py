"""MMaDA's layouts against the prompts of the published code."""

import pytest
import torch
from PIL import Image as pillow
from safetensors.torch import load_file
from torch import Tensor

from tests.models.toy import GOLDEN
from tests.models.vision.mmada import CASES, FOLDER, IDS, MAX_TEXT, text_to_image_ids
from unmask.checkpoints.checkpoint import load_model
from unmask.checkpoints.magvit_files import load_magvit
from unmask.checkpoints.tokenizer import encode, load_tokenizer
from unmask.models.vision.image_preprocess import pixels_from_picture, square_of
from unmask.models.vision.mmada_prompt import (
    MmadaIds,
    drawing_prompt,
    image_tokens,
    understanding_prompt,
)


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    return load_file(FOLDER / "expected.safetensors")


def codes_of(recorded: dict[str, Tensor], name: str) -> list[int]:
    return (recorded[f"image_ids_{name}"] - IDS.image_offset).tolist()


@pytest.mark.parametrize("name", ["wide", "tall"])
@torch.no_grad()
def test_codes_of_a_photograph(recorded: dict[str, Tensor], name: str) -> None:
    picture = pillow.fromarray(recorded[f"photo_{name}"].numpy())
    pixels = pixels_from_picture(square_of(picture, CASES["image_resolution"], "pad"))
    codes = load_magvit(GOLDEN / "magvitv2").encode(pixels[None]).flatten().tolist()
    expected = [IDS.start_of_image, *recorded[f"image_ids_{name}"].tolist(), IDS.end_of_image]
    assert image_tokens(codes, IDS) == expected


def test_understanding_prompts(recorded: dict[str, Tensor]) -> None:
    """The published rows, which are filled on the left to one length."""
    tokenizer = load_tokenizer(FOLDER)
    texts = [encode(text, tokenizer) for text in CASES["rendered"]["rl_boxed"]]
    names, length = ("wide", "tall"), recorded["prompt_ids"].shape[1]
    found = [
        understanding_prompt(codes_of(recorded, name), text, IDS)
        for name, text in zip(names, texts, strict=True)
    ]
    filled = [[IDS.end_of_text] * (length - len(row)) + row for row in found]
    assert filled == recorded["prompt_ids"].tolist()


@pytest.mark.parametrize(("kind", "row"), [("t2i", 0), ("t2i", 1), ("t2i_uncond", 0)])
def test_text_to_image_prompts(recorded: dict[str, Tensor], kind: str, row: int) -> None:
    """The published rows, which are filled on the left to one length."""
    prompt = drawing_prompt(text_to_image_ids(row if kind == "t2i" else None), IDS, MAX_TEXT)
    canvas = [*[IDS.mask] * 64, IDS.end_of_image]
    filled = MAX_TEXT + 2 - len(prompt)
    assert [*[IDS.filling] * filled, *prompt, *canvas] == recorded[f"{kind}_ids"][row].tolist()
    read = recorded[f"{kind}_mask"][row].tolist()
    assert read == [0] * filled + [1] * (len(read) - filled)


@pytest.mark.parametrize("row", [0, 1])
@torch.no_grad()
def test_logits_of_hidden_codes(recorded: dict[str, Tensor], row: int) -> None:
    """Without the filling, which nothing attends to, and with other positions: equal up to rounding."""
    model = load_model(FOLDER)
    for kind, text in (("cond", text_to_image_ids(row)), ("uncond", [])):
        prompt = drawing_prompt(text, IDS, MAX_TEXT)
        tokens = torch.tensor([[*prompt, *[IDS.mask] * 64, IDS.end_of_image]])
        logits = model.logits(tokens)[0, len(prompt) : -1, IDS.image_offset :][:, : IDS.num_codes]
        assert (logits - recorded[f"t2i_{kind}_logits"][row]).abs().max() < 2e-4


@torch.no_grad()
def test_logits_of_an_understanding_prompt(recorded: dict[str, Tensor]) -> None:
    logits = load_model(FOLDER).logits(recorded["unpadded_ids"])
    assert (logits - recorded["unpadded_logits"]).abs().max() < 2e-4


def test_released_ids_do_not_collide() -> None:
    ids = MmadaIds()
    assert ids.image_offset + ids.num_codes - 1 == 134540  # of 134656 rows


def test_refuses_codes_and_texts_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="image code 128: must be from 0 to 127"):
        image_tokens([0, 128], IDS)
    with pytest.raises(ValueError, match="has 6 tokens with its start and end, of 5 that"):
        drawing_prompt([1, 2, 3, 4], IDS, 5)
