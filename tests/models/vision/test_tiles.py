"""Tiles of images of any shape: the published ones, and the rule of the grid as a loop."""

import json

import numpy as np
import pytest
import torch
from PIL import Image as pillow
from safetensors.torch import load_file
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from tests.models.toy import GOLDEN
from unmask.models.vision.tiles import choose_size, tiles_of

FOLDER = GOLDEN / "lladav"
SIZES = [(56 * columns, 56 * rows) for columns in range(1, 7) for rows in range(1, 7)]


@pytest.mark.parametrize("name", ["wide", "tall", "small"])
def test_published_tiles(name: str) -> None:
    recorded = load_file(FOLDER / "expected.safetensors")
    case = json.loads((FOLDER / "cases.json").read_text())[name]
    tiles = tiles_of(pillow.fromarray(recorded[f"{name}_photo"].numpy()), 56, SIZES)
    assert tiles.grid == (case["grid_wide"], case["grid_high"])
    assert (tiles.width, tiles.height) == (case["width"], case["height"])
    torch.testing.assert_close(tiles.pixels, recorded[f"{name}_tiles"], rtol=0, atol=1e-6)


def test_one_padded_tile() -> None:
    recorded = load_file(FOLDER / "expected.safetensors")
    tiles = tiles_of(pillow.fromarray(recorded["wide_photo"].numpy()), 56, None)
    assert tiles.grid is None
    torch.testing.assert_close(tiles.pixels[0], recorded["pad_tile"], rtol=0, atol=1e-6)


def loop(width: int, height: int) -> tuple[int, int]:
    """The published rule, one size after the other."""
    best, most, least = SIZES[0], 0, float("inf")
    for size in SIZES:
        scale = min(size[0] / width, size[1] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        wasted = size[0] * size[1] - kept
        if kept > most or (kept == most and wasted < least):
            best, most, least = size, kept, wasted
    return best


def test_grids_of_many_shapes() -> None:
    random = np.random.default_rng(0)
    shapes = (np.exp(random.uniform(0, 7, (2000, 2)))).astype(int).tolist()
    assert all(choose_size(w, h, SIZES) == loop(w, h) for w, h in shapes)


@pytest.mark.parametrize("size", [(1, 1), (1, 150), (150, 1), (500, 499), (56, 56)])
def test_every_shape_has_tiles(size: tuple[int, int]) -> None:
    tiles = tiles_of(pillow.new("RGB", size), 56, SIZES)
    assert tiles.grid is not None
    assert tiles.pixels.shape == (1 + tiles.grid[0] * tiles.grid[1], 3, 56, 56)


def test_tiles_are_what_the_image_processor_of_transformers_makes() -> None:
    """SigLIP's processor squashes, scales to [0, 1] and norms by mean and deviation 0.5, with bicubic resampling."""
    processor = SiglipImageProcessorPil(size={"height": 32, "width": 32}, resample=3)
    rng = np.random.default_rng(0)
    picture = pillow.fromarray(rng.integers(0, 256, (45, 70, 3), dtype=np.uint8))
    expected = processor(picture, return_tensors="np")["pixel_values"][0]
    found = tiles_of(picture, 32, [(32, 32)]).pixels[0]
    assert np.abs(found.numpy() - expected).max() < 1e-6
