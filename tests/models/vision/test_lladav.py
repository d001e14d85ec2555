"""The vision side of LLaDA-V against the tensors of the published code."""

import copy

import pytest
import torch
from PIL import Image as pillow
from PIL.Image import Image as Picture
from safetensors.torch import load_file
from torch import Tensor

from tests.models.toy import GOLDEN
from tests.models.vision.lladav import recorded_image, vision_side
from unmask.models.vision.lladav import LladavVision, LladavVisionSpec
from unmask.models.vision.tiles import tiles_of
from unmask.types import PromptImage

FOLDER = GOLDEN / "lladav"
PHOTOS = ("wide", "tall", "big", "small")
TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def recorded() -> dict[str, Tensor]:
    return load_file(FOLDER / "expected.safetensors")


@pytest.fixture(scope="module")
def vision() -> LladavVision:
    return vision_side()


def photo(recorded: dict[str, Tensor], name: str) -> Picture:
    return pillow.fromarray(recorded[f"{name}_photo"].numpy())


@pytest.mark.parametrize("name", PHOTOS)
@torch.no_grad()
def test_vectors_of_an_image(vision: LladavVision, recorded: dict[str, Tensor], name: str) -> None:
    (features,) = vision.features([PromptImage(name.encode(), 0, recorded_image(name))])
    vectors = vision([features])
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
    assert (vision([vision.encode(tiles)]) - recorded["pad_image_features"]).abs().max() < TOLERANCE


def test_gradients_reach_every_part_but_the_unused_norm(
    vision: LladavVision, recorded: dict[str, Tensor]
) -> None:
    """The tower's gradient needs its pass to be part of the model's."""
    image = PromptImage(b"small", 0, recorded_image("small"))
    (frozen,) = vision.features([image])
    vision.requires_grad_(True)
    (trained,) = vision.features([image])
    vision([trained]).square().sum().backward()
    without = {name for name, parameter in vision.named_parameters() if parameter.grad is None}
    vision.zero_grad()
    vision.requires_grad_(False)
    assert without == {"tower.post_layernorm.weight", "tower.post_layernorm.bias"}
    with torch.no_grad():
        assert torch.equal(vision([frozen]), vision([trained]))


def test_an_image_is_encoded_once_while_the_tower_is_unchanged() -> None:
    vision = copy.deepcopy(vision_side())
    image = PromptImage(b"small", 0, recorded_image("small"))
    first, second = (vision.features([image])[0].values for _ in range(2))
    assert second is first
    with torch.no_grad():
        vision.tower.positions.weight.mul_(2)
    assert not torch.equal(vision.features([image])[0].values, first)


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
    tiles = side.tiles(pillow.new("RGB", size))
    vectors = side([side.encode(tiles)])
    assert vectors.shape == (expected, 4096)
