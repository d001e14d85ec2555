"""How many red circles are there, among circles of other colours?"""

from math import ceil, sqrt
from random import Random

from unmask.tasks.picture import (
    BLUE,
    GREEN,
    RED,
    Drawing,
    PictureTask,
    Question,
    Wanted,
    draw_circles,
    numbers,
    white_square,
)

QUESTION = Question(
    "How many red circles are there? Answer with a number.", "red?", lambda level: numbers(1, level)
)


def across(level: int) -> int:
    """Return the cells of a side of the grid that holds `level` red circles and as many others."""
    return ceil(sqrt(2 * level))


def draw(random: Random, wanted: Wanted) -> Drawing:
    """Draw the wanted number of red circles, and up to `level` others."""
    picture, pen = white_square(wanted.pixels)
    others = [random.choice((BLUE, GREEN)) for _ in range(random.randint(0, wanted.level))]
    colours = [RED] * int(wanted.answer) + others
    whole = (0, 0, wanted.pixels, wanted.pixels)
    draw_circles(pen, random, whole, across(wanted.level), colours)
    return Drawing(picture)


TASK = PictureTask(
    meaning="most red circles, and most others",
    levels=range(2, 31),
    level=8,
    questions={"red": QUESTION},
    least_pixels=lambda level: 5 * across(level),
    draw=draw,
)
