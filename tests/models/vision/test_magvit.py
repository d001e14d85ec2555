"""MAGVIT-v2 against the numbers of the published code, and its own arithmetic."""

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.models.toy import GOLDEN
from unmask.checkpoints.magvit_files import load_magvit
from unmask.models.vision.magvit import (
    Magvit,
    MagvitSpec,
    codes_from_latents,
    latents_from_codes,
    uint8_from_pixels,
)

FOLDER = GOLDEN / "magvitv2"
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    return load_file(FOLDER / "expected.safetensors")


@pytest.fixture(scope="module")
def model() -> Magvit:
    return load_magvit(FOLDER)


@pytest.mark.parametrize("suffix", ["", "_b"])
@torch.no_grad()
def test_latents_and_codes(model: Magvit, recorded: dict[str, Tensor], suffix: str) -> None:
    pixels = recorded[f"pixel_values{suffix}"]
    latents = model.latents(pixels)
    assert (latents - recorded[f"latent{suffix}"]).abs().max() < TOLERANCE
    assert torch.equal(model.encode(pixels).flatten(1), recorded[f"codes{suffix}"])


@pytest.mark.parametrize("suffix", ["", "_b"])
@torch.no_grad()
def test_decoded_images(model: Magvit, recorded: dict[str, Tensor], suffix: str) -> None:
    height, width = recorded[f"latent{suffix}"].shape[-2:]
    pixels = model.decode(recorded[f"codes{suffix}"].view(-1, height, width))
    assert (pixels - recorded[f"decoded{suffix}"]).abs().max() < TOLERANCE


@torch.no_grad()
def test_decoded_image_of_free_codes(model: Magvit, recorded: dict[str, Tensor]) -> None:
    codes = recorded["codes_c"].view(1, *recorded["shape_c"].tolist())
    assert (model.decode(codes) - recorded["decoded_c"]).abs().max() < TOLERANCE


def test_colours_of_a_decoded_image(recorded: dict[str, Tensor]) -> None:
    colours = uint8_from_pixels(recorded["decoded"])
    assert (colours.int() - recorded["decoded_uint8"].int()).abs().max() <= 1


def test_signs_of_codes(recorded: dict[str, Tensor]) -> None:
    latents = latents_from_codes(recorded["codes"].view(2, 8, 8), 7)
    assert torch.equal(latents, recorded["quantized"])


def test_every_code_survives_the_round_trip_at_the_published_size() -> None:
    codes = torch.arange(8192).view(2, 64, 64)
    latents = latents_from_codes(codes, 13)
    assert torch.equal(codes_from_latents(latents), codes)
    assert latents[0, :, 0, 0].eq(-1).all()
    assert latents[0, :, 0, 1].tolist() == [-1] * 12 + [1]  # channel 0 is the highest bit


def test_published_sizes() -> None:
    """The parameters of the published checkpoint, 381.97 MB in fp32 with its two buffers."""
    with torch.device("meta"):
        model = Magvit(MagvitSpec())
    numbers = sum(parameter.numel() for parameter in model.parameters())
    assert numbers * 4 + 8192 * 13 * 4 + 13 * 8 == pytest.approx(381.97e6, rel=2e-5)
    assert model.spec.scale == 16 and model.spec.num_codes == 8192
    latents = model.latents(torch.empty(1, 3, 512, 512, device="meta"))
    assert latents.shape == (1, 13, 32, 32)
    assert model.decoder(latents).shape == (1, 3, 512, 512)


def test_refuses_images_between_two_sizes_and_codes_that_do_not_exist(model: Magvit) -> None:
    with pytest.raises(
        ValueError, match="image of 30 x 32 pixels: its sides must be multiples of 4"
    ):
        model.encode(torch.zeros(1, 3, 32, 30))
    with pytest.raises(ValueError, match="image codes from 0 to 128: must be from 0 to 127"):
        model.decode(torch.tensor([[[0, 128]]]))
