"""Images as the pixels that a model reads: squares, tiles, and numbers in [-1, 1].

All resampling is Pillow's bicubic on 8 bits, as in the published pipelines. The three recipes of a square
give different codes of one image, so a model is evaluated with the one that it was trained with:

    pad      the image in the middle of a square of one colour, resized: dLLM-RL, with white
    crop     the short side resized, the middle cut out: MMaDA
    squash   resized without keeping the shape: MMaDA for charts, documents and geometry
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from unmask.images import ImagePreprocess

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

WHITE, GREY = (255, 255, 255), (127, 127, 127)


def pixels_from_picture(picture: "Picture") -> Tensor:
    """Return `(3, H, W)` fp32 pixels in [-1, 1] of an RGB image."""
    colours = torch.from_numpy(np.array(picture, dtype=np.uint8))  # (H, W, 3)
    return ((colours.float() / 255 - 0.5) / 0.5).permute(2, 0, 1).contiguous()


def square_of(
    picture: "Picture", size: int, preprocess: ImagePreprocess, colour: tuple[int, int, int] = WHITE
) -> "Picture":
    """Return an RGB image as a square.

    Args:
        picture: the image, in RGB.
        size: pixels of a side.
        preprocess: the recipe, see the module.
        colour: of the padding.
    """
    match preprocess:
        case "pad":
            return resized(_padded(picture, colour), size, size)
        case "crop":
            return _cropped(picture, size)
        case "squash":
            return resized(picture, size, size)


def resized(picture: "Picture", width: int, height: int) -> "Picture":
    """Return an image in another size, bicubic."""
    from PIL.Image import Resampling

    return picture.resize((width, height), Resampling.BICUBIC)


def _padded(picture: "Picture", colour: tuple[int, int, int]) -> "Picture":
    """Return an image in the middle of a square; an odd pixel is on the right or at the bottom."""
    from PIL import Image as pillow

    width, height = picture.size
    side = max(width, height)
    square = pillow.new("RGB", (side, side), colour)
    square.paste(picture, ((side - width) // 2, (side - height) // 2))
    return square


def _cropped(picture: "Picture", size: int) -> "Picture":
    width, height = picture.size
    short = min(width, height)
    smaller = resized(picture, size * width // short, size * height // short)
    # Halves are rounded to even, as torchvision's centre crop does.
    left, top = (round((side - size) / 2) for side in smaller.size)
    return smaller.crop((left, top, left + size, top + size))
