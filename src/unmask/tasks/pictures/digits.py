"""Which digits are written? Real handwriting: the 1,797 digits of scikit-learn, 8 x 8 pixels of 17 greys.

E. Alpaydin, C. Kaynak: "Optical Recognition of Handwritten Digits", UCI, 1998. A written digit is in one split
only, so a model is tested on handwriting that it has not seen; where several stand in a row, all are of one
split.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from itertools import product
from random import Random
from typing import Any

from unmask.tasks.picture import Drawing, PictureTask, Question, Wanted, white_square


def _answers(level: int) -> list[str]:
    return ["".join(row) for row in product("0123456789", repeat=level)]


@cache
def written() -> Mapping[str, list[bytes]]:
    """Return the 64 greys, 0 to 16, of each written digit, by its value."""
    try:
        datasets: Any = import_module("sklearn.datasets")
    except ModuleNotFoundError as error:
        raise ValueError(
            "the digits of scikit-learn need a package that is not installed: pip install "
            "'unmask[vision]'"
        ) from error
    found = datasets.load_digits()
    written: dict[str, list[bytes]] = {digit: [] for digit in "0123456789"}
    for image, value in zip(found.images, found.target, strict=True):
        written[str(value)].append(image.astype("uint8").tobytes())
    return written


def draw(random: Random, wanted: Wanted) -> Drawing:
    """Draw the wanted digits in a row, dark on white, each at a random place and size of its cell."""
    from PIL import Image

    picture, _ = white_square(wanted.pixels)
    cell = wanted.pixels // wanted.level
    sources = [random.choice(written()[digit]) for digit in wanted.answer]
    for number, source in enumerate(sources):
        greys = Image.frombytes("L", (8, 8), bytes(255 - 255 * grey // 16 for grey in source))
        size = random.randint(max(8, cell * 3 // 4), cell)
        x = number * cell + random.randint(0, cell - size)
        y = random.randint(0, wanted.pixels - size)
        picture.paste(greys.resize((size, size), Image.Resampling.BILINEAR).convert("RGB"), (x, y))
    return Drawing(picture, tuple(sources))


TASK = PictureTask(
    meaning="digits in a row",
    levels=range(1, 4),
    level=1,
    questions={
        "digits": Question(
            "Which digits are written, from left to right? Answer with the digits alone.",
            "digits?",
            _answers,
        )
    },
    least_pixels=lambda level: 8 * level,
    draw=draw,
)
