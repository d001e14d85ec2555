"""The vision side of LLaDA-V against the tensors of the published code."""

import pytest
import torch
from PIL import Image as pillow
from PIL.Image import Image as Picture
from safetensors.torch import load_file
from torch import Tensor

from tests.models.toy import GOLDEN
from unmask.checkpoints.vision_files import load_lladav_vision
from unmask.models.vision.lladav import LladavVision, LladavVisionSpec
from unmask.models.vision.tiles import tiles_of

FOLDER = GOLDEN / "lladav"
PHOTOS = ("wide", "tall", "big", "small")
TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    return load_file(FOLDER / "expected.safetensors")


@pytest.fixture(scope="module")
def vision() -> LladavVision:
    return load_lladav_vision(FOLDER)


def photo(recorded: dict[str, Tensor], name: str) -> Picture:
    return pillow.fromarray(recorded[f"{name}_photo"].numpy())


@pytest.mark.parametrize("name", PHOTOS)
@torch.no_grad()
def test_vectors_of_an_image(vision: LladavVision, recorded: dict[str, Tensor], name: str) -> None:
    vectors = vision(vision.tiles(photo(recorded, name)))
    expected = recorded[f"{name}_image_features"]
    assert vectors.shape == expected.shape
    assert (vectors - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", ["wide", "small"])
@torch.no_grad()
def test_tower_and_projector(vision: LladavVision, recorded: dict[str, Tensor], name: str) -> None:
    features = vision.tower(recorded[f"{name}_tiles"])
    assert (features - recorded[f"{name}_tower"]).abs().max() < TOLERANCE
    assert (vision.projector(features) - recorded[f"{name}_projected"]).abs().max() < TOLERANCE


@torch.no_grad()
def test_vectors_of_an_image_that_is_padded(
    vision: LladavVision, recorded: dict[str, Tensor]
) -> None:
    """The published code pads where the config states no any-resolution tiles."""
    tiles = tiles_of(photo(recorded, "wide"), 56, None)
    assert (vision(tiles) - recorded["pad_image_features"]).abs().max() < TOLERANCE


def test_gradients_reach_every_part_but_the_unused_norm(
    vision: LladavVision, recorded: dict[str, Tensor]
) -> None:
    vision(vision.tiles(photo(recorded, "small"))).square().sum().backward()
    without = {name for name, parameter in vision.named_parameters() if parameter.grad is None}
    vision.zero_grad()
    assert without == {"tower.post_layernorm.weight", "tower.post_layernorm.bias"}


@pytest.mark.parametrize("name", PHOTOS)
def test_number_of_vectors_from_the_size_alone(
    vision: LladavVision, recorded: dict[str, Tensor], name: str
) -> None:
    height, width = recorded[f"{name}_photo"].shape[:2]
    assert vision.spec.num_vectors(width, height) == len(recorded[f"{name}_image_features"])


GRIDS = tuple((384 * columns, 384 * rows) for columns in range(1, 7) for rows in range(1, 7))


@pytest.mark.parametrize(
    ("size", "grids", "expected"),
    [
        ((384, 384), None, 729 + 1),
        ((384, 384), GRIDS, 729 + 27 * 28),
        ((1920, 1080), GRIDS, 729 + 40 * 73),  # of 5 x 3 tiles, 75 x 135 vectors without padding
    ],
)
def test_the_published_size(
    size: tuple[int, int], grids: tuple[tuple[int, int], ...] | None, expected: int
) -> None:
    """The whole side at the published size, without memory for its weights."""
    spec = LladavVisionSpec(4096, grids=grids)
    assert spec.num_vectors(*size) == expected
    with torch.device("meta"):
        side = LladavVision(spec)
    vectors = side(side.tiles(pillow.new("RGB", size)))
    assert vectors.shape == (expected, 4096)
