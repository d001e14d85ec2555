"""Which half of the picture has more circles, the larger circle, the darker circle?

Each half has one of `level` grades, of a number, a size or a grey; the two grades differ.
"""

from math import ceil, sqrt
from random import Random
from typing import TYPE_CHECKING

from unmask.tasks.picture import (
    BLACK,
    BLUE,
    Colour,
    Drawing,
    PictureTask,
    Question,
    Wanted,
    draw_circles,
    white_square,
)

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

FORM = "Answer L for the left half or R for the right half."
LEFT, RIGHT = "L", "R"


def _question(text: str, word: str) -> Question:
    return Question(f"{text} {FORM}", word, lambda level: (LEFT, RIGHT))


def draw(random: Random, wanted: Wanted) -> Drawing:
    """Draw two halves, of which the wanted one has the higher grade."""
    picture, pen = white_square(wanted.pixels)
    lower, higher = sorted(random.sample(range(1, wanted.level + 1), 2))
    grades = (higher, lower) if wanted.answer == LEFT else (lower, higher)
    half = wanted.pixels // 2
    size = random.randint(half // 2, half - 2)  # of both circles, where their grey differs
    for grade, left in zip(grades, (0, wanted.pixels - half), strict=True):
        if wanted.question == "more":
            # Two grids, one above the other, each for half of the circles.
            across = ceil(sqrt((wanted.level + 1) // 2))
            for top, count in ((0, grade // 2), (half, grade - grade // 2)):
                area = (left + 1, top, half - 1, half)
                draw_circles(pen, random, area, across, [BLUE] * count)
        elif wanted.question == "larger":
            sizes = half - 2 - 3
            _draw_circle(pen, random, left, half, 3 + sizes * grade // wanted.level, BLUE)
        else:
            grey = 235 - 235 * grade // wanted.level
            _draw_circle(pen, random, left, half, size, (grey, grey, grey))
    pen.line((half, 0, half, wanted.pixels), fill=BLACK)
    return Drawing(picture)


def _draw_circle(
    pen: "ImageDraw", random: Random, left: int, half: int, size: int, colour: Colour
) -> None:
    """Draw a circle of `size` pixels at a random place of a half that begins at `left`."""
    x = left + 1 + random.randint(0, half - 1 - size)
    y = random.randint(0, 2 * half - 1 - size)
    pen.ellipse((x, y, x + size - 1, y + size - 1), fill=colour)


TASK = PictureTask(
    meaning="grades of number, size and grey that a half may have",
    levels=range(2, 31),
    level=6,
    questions={
        "more": _question("Which half has more circles?", "more?"),
        "larger": _question("Which half has the larger circle?", "larger?"),
        "darker": _question("Which half has the darker circle?", "darker?"),
    },
    least_pixels=lambda level: max(2 * (level + 5), 10 * ceil(sqrt((level + 1) // 2)) + 2),
    draw=draw,
)
