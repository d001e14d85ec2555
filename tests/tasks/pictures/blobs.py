"""Measures pictures independently of how they were drawn: connected areas of a colour."""

from typing import Any

import numpy as np
from scipy import ndimage


def mask(picture: Any, colour: tuple[int, int, int]) -> np.ndarray:
    """Return where a picture has a colour, `(H, W)`."""
    return (np.asarray(picture) == np.array(colour, dtype=np.uint8)).all(-1)


def areas(picture: Any, colour: tuple[int, int, int]) -> list[int]:
    """Return the numbers of pixels of the connected areas of a colour; corners connect."""
    labels, count = ndimage.label(mask(picture, colour), structure=np.ones((3, 3)))
    return [int((labels == number).sum()) for number in range(1, count + 1)]
