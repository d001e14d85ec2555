"""The three ways to a square, against tensors that Pillow gave for the published recipes."""

import numpy as np
import pytest
import torch
from PIL import Image as pillow
from safetensors.torch import load_file

from tests.models.toy import GOLDEN
from unmask.images import ImagePreprocess
from unmask.models.vision.image_preprocess import pixels_from_picture, square_of


@pytest.mark.parametrize("preprocess", ["pad", "crop", "squash"])
@pytest.mark.parametrize("photo", ["wide", "tall"])
def test_published_recipes(photo: str, preprocess: ImagePreprocess) -> None:
    recorded = load_file(GOLDEN / "magvitv2" / "expected.safetensors")
    picture = pillow.fromarray(recorded[f"photo_{photo}"].numpy())
    pixels = pixels_from_picture(square_of(picture, 32, preprocess))
    torch.testing.assert_close(pixels, recorded[f"photo_{photo}_{preprocess}"], rtol=0, atol=1e-6)


def test_padding_has_its_colour_and_an_odd_pixel_on_the_right() -> None:
    picture = pillow.new("RGB", (2, 5), (10, 20, 30))
    square = np.array(square_of(picture, 5, "pad", (1, 2, 3)))
    assert (square[:, 1:3] == (10, 20, 30)).all()
    assert (square[:, [0, 3, 4]] == (1, 2, 3)).all()


@pytest.mark.parametrize("size", [(1, 200), (200, 1), (3, 2), (32, 32)])
@pytest.mark.parametrize("preprocess", ["pad", "crop", "squash"])
def test_every_shape_becomes_the_square(size: tuple[int, int], preprocess: ImagePreprocess) -> None:
    assert square_of(pillow.new("RGB", size), 32, preprocess).size == (32, 32)
