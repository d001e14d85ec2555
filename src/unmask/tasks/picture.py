"""The record of a task of generated pictures: its questions, and how a picture with a given answer is drawn.

A task is one file of `tasks/pictures` that exports one `PictureTask` as `TASK`, under the file's name. The
answer is drawn first, each with the same probability, and then a picture that has it: guessing is right once
in as many times as there are answers, whatever the guess.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageDraw import ImageDraw

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
RED, BLUE, GREEN = (220, 40, 40), (40, 70, 220), (40, 170, 70)
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Question:
    """A question that a task asks of its pictures.

    Attributes:
        text: the sentence, with the form of the answer.
        word: the short form for small models.
        answers: returns all answers at a level, letters or numbers; each is equally likely.
    """

    text: str
    word: str
    answers: Callable[[int], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a picture is drawn for.

    Attributes:
        question: name of the question.
        answer: the right answer to it.
        pixels: of a side.
        level: difficulty.
    """

    question: str
    answer: str
    pixels: int
    level: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture.

    Attributes:
        picture: square, in RGB.
        sources: content that it is made of and that no other split may show; without any, the picture itself.
    """

    picture: "Picture"
    sources: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class PictureTask:
    """A task of generated pictures.

    Attributes:
        meaning: of its levels of difficulty, in a few words.
        levels: those there are.
        level: the one that is taken by default.
        questions: by name.
        least_pixels: returns the pixels of a side that a level needs.
        draw: returns a picture whose answer is the wanted one; all its randomness is drawn from the argument.
    """

    meaning: str
    levels: range
    level: int
    questions: Mapping[str, Question]
    least_pixels: Callable[[int], int]
    draw: Callable[[Random, Wanted], Drawing]


def numbers(first: int, last: int) -> list[str]:
    """Return the answers `first` to `last`."""
    return [str(number) for number in range(first, last + 1)]


def white_square(pixels: int) -> "tuple[Picture, ImageDraw]":
    """Return a white square and the pen that draws on it.

    Raises:
        ValueError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ModuleNotFoundError as error:
        raise ValueError(
            'task.kind = "pictures" needs a package that is not installed: pip install '
            "'unmask[vision]'"
        ) from error
    picture = Image.new("RGB", (pixels, pixels), WHITE)
    return picture, ImageDraw.Draw(picture)


def draw_circles(
    pen: "ImageDraw",
    random: Random,
    area: tuple[int, int, int, int],
    across: int,
    colours: Sequence[Colour],
) -> None:
    """Draw a circle for each colour, of random sizes, in different cells of a grid laid over an area.

    Args:
        pen: of the picture.
        random: of cells, places and sizes.
        area: left, top, width, height, in pixels.
        across: cells of a side of the grid; has at least one for each circle.
        colours: of the circles.
    """
    left, top, width, height = area
    side = min(width, height) // across
    for cell, colour in zip(random.sample(range(across**2), len(colours)), colours, strict=True):
        size = random.randint(max(3, side // 2), side - 1)
        x = left + cell % across * width // across + random.randint(0, side - 1 - size)
        y = top + cell // across * height // across + random.randint(0, side - 1 - size)
        pen.ellipse((x, y, x + size - 1, y + size - 1), fill=colour)
