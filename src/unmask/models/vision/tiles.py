"""An image of any shape as square tiles: one of the whole image, and those of a grid that fits it.

Of the grid sizes on offer, the one that keeps most of the image's pixels wins; of equal ones, the one that
wastes the fewest, then the first. The image is resized to the grid without changing its shape, put in the
middle of black and cut row by row. In front of these tiles stands the whole image, squashed into one.

Liu et al., "LLaVA-NeXT: Improved reasoning, OCR, and world knowledge" (2024).
"""

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from unmask.models.vision.image_preprocess import (
    GREY,
    pixels_from_picture,
    resized,
    square_of,
)

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


class Tiles(NamedTuple):
    """The tiles of an image.

    Attributes:
        pixels: `(1 + columns * rows, 3, size, size)` in [-1, 1]; `(1, ...)` without a grid.
        grid: columns and rows, or `None` if there is one tile alone.
        width: of the image.
        height: of the image.
    """

    pixels: Tensor
    grid: tuple[int, int] | None
    width: int
    height: int


def choose_size(width: int, height: int, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the size of the grid for an image.

    Args:
        width: of the image.
        height: of the image.
        sizes: the widths and heights on offer, in pixels.
    """

    def kept_and_wasted(size: tuple[int, int]) -> tuple[int, int]:
        scale = min(size[0] / width, size[1] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - size[0] * size[1]

    return max(sizes, key=kept_and_wasted)  # the first of equal ones


def grid_of(
    width: int, height: int, tile: int, sizes: Sequence[tuple[int, int]] | None
) -> tuple[int, int] | None:
    """Return columns and rows of the grid for an image; arguments as of `choose_size` and `tiles_of`."""
    if sizes is None:
        return None
    size = choose_size(width, height, sizes)
    return size[0] // tile, size[1] // tile


def tiles_of(picture: "Picture", tile: int, sizes: Sequence[tuple[int, int]] | None) -> Tiles:
    """Return the tiles of an RGB image.

    Args:
        picture: the image.
        tile: pixels of a tile's side.
        sizes: of grids, in pixels; `None` gives one tile alone, the image padded with grey.
    """
    grid = grid_of(*picture.size, tile, sizes)
    if grid is None:
        squares = [square_of(picture, tile, "pad", GREY)]
    else:
        columns, rows = grid
        canvas = _fitted(picture, columns * tile, rows * tile)
        corners = [(x * tile, y * tile) for y in range(rows) for x in range(columns)]
        squares = [
            square_of(picture, tile, "squash"),
            *(canvas.crop((x, y, x + tile, y + tile)) for x, y in corners),
        ]
    return Tiles(torch.stack([pixels_from_picture(each) for each in squares]), grid, *picture.size)


def _fitted(picture: "Picture", width: int, height: int) -> "Picture":
    """Return an image resized to fill a size in one direction, in the middle of black."""
    from PIL import Image as pillow

    scale_x, scale_y = width / picture.width, height / picture.height
    if scale_x < scale_y:
        size = width, min(ceil(picture.height * scale_x), height)
    else:
        size = min(ceil(picture.width * scale_y), width), height
    canvas = pillow.new("RGB", (width, height))
    canvas.paste(resized(picture, *size), ((width - size[0]) // 2, (height - size[1]) // 2))
    return canvas
