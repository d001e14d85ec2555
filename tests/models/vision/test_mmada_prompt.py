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
    image_tokens,
    text_to_image_prompt,
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
    text = text_to_image_ids(row if kind == "t2i" else None)
    prompt = text_to_image_prompt(text, 64, MAX_TEXT, IDS)
    assert torch.equal(prompt.token_ids, recorded[f"{kind}_ids"][row])
    assert torch.equal(prompt.is_read.long(), recorded[f"{kind}_mask"][row])
    assert prompt.token_ids[prompt.first_code - 1] == IDS.start_of_image
    assert prompt.token_ids[prompt.first_code + 64] == IDS.end_of_image


@pytest.mark.parametrize("row", [0, 1])
@torch.no_grad()
def test_logits_of_hidden_codes(recorded: dict[str, Tensor], row: int) -> None:
    model = load_model(FOLDER)
    for kind, text in (("cond", text_to_image_ids(row)), ("uncond", [])):
        prompt = text_to_image_prompt(text, 64, MAX_TEXT, IDS)
        tokens = prompt.with_codes(torch.full((64,), -1), IDS)
        logits = prompt.code_logits(model.logits(tokens, None, prompt.allowed()), 64, IDS)
        assert (logits - recorded[f"t2i_{kind}_logits"][row]).abs().max() < 2e-4


def test_codes_in_their_places() -> None:
    prompt = text_to_image_prompt([7], 3, 5, IDS)
    found = prompt.with_codes(torch.tensor([-1, 0, 127]), IDS)[0, prompt.first_code :].tolist()
    assert found == [IDS.mask, 149, 276, IDS.end_of_image]


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
        text_to_image_prompt([1, 2, 3, 4], 3, 5, IDS)
