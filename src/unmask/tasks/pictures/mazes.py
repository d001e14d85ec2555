"""Can the blue cell be reached from the red one, and how long is the shortest way?

A maze is a spanning tree of a grid of cells, found by a random depth-first search, with passages of the tree
as gaps between borders. For `way` one passage is closed, on the way between the two cells or off it, so that
mazes of both answers have the same number of borders. For `steps` passages are opened, so that there are
several ways, of which the shortest counts; the red cell is then a corner, from which every length up to
`2 (level - 1)` occurs.
"""

from collections.abc import Mapping
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

from unmask.tasks.picture import (
    BLACK,
    BLUE,
    RED,
    Drawing,
    PictureTask,
    Question,
    Wanted,
    numbers,
    white_square,
)

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Cell = tuple[int, int]  # column, row
Passage = frozenset[Cell]
YES, NO = "Y", "N"


def neighbours(cell: Cell, level: int) -> list[Cell]:
    """Return the cells next to a cell of a grid of `level` cells on a side."""
    x, y = cell
    around = ((x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1))
    return [(a, b) for a, b in around if 0 <= a < level and 0 <= b < level]


def tree(random: Random, level: int) -> set[Passage]:
    """Return the passages of a random spanning tree."""
    way = [(random.randrange(level), random.randrange(level))]
    seen, passages = {*way}, set[Passage]()
    while way:
        fresh = [cell for cell in neighbours(way[-1], level) if cell not in seen]
        if not fresh:
            way.pop()
            continue
        following = random.choice(fresh)
        passages.add(frozenset((way[-1], following)))
        seen.add(following)
        way.append(following)
    return passages


def ways_from(start: Cell, passages: set[Passage], level: int) -> Mapping[Cell, tuple[Cell, ...]]:
    """Return a shortest way to each cell that can be reached from `start`, both ends included."""
    ways: dict[Cell, tuple[Cell, ...]] = {start: (start,)}
    waiting = [start]
    for cell in waiting:  # grows: breadth first
        for other in neighbours(cell, level):
            if other not in ways and frozenset((cell, other)) in passages:
                ways[other] = (*ways[cell], other)
                waiting.append(other)
    return ways


def draw(random: Random, wanted: Wanted) -> Drawing:
    """Draw a maze with the wanted answer."""
    maze = _steps if wanted.question == "steps" else _way
    passages, start, end = maze(random, wanted)
    picture, pen = white_square(wanted.pixels)
    size = wanted.pixels // wanted.level
    for (x, y), colour in ((start, RED), (end, BLUE)):
        left, top = x * size + 1, y * size + 1
        pen.rectangle((left, top, left + size - 2, top + size - 2), fill=colour)
    for y in range(wanted.level):
        for x in range(wanted.level):
            _draw_borders(pen, (x, y), passages, size)
    # The right and lower borders, in the last row of pixels where the cells reach it.
    last = min(size * wanted.level, wanted.pixels - 1)
    pen.line((last, 0, last, last, 0, last), fill=BLACK)
    return Drawing(picture)


def _draw_borders(pen: "ImageDraw", cell: Cell, passages: set[Passage], size: int) -> None:
    """Draw the left and the upper border of a cell where there is no passage."""
    x, y = cell
    if frozenset((cell, (x - 1, y))) not in passages:
        pen.line((x * size, y * size, x * size, (y + 1) * size), fill=BLACK)
    if frozenset((cell, (x, y - 1))) not in passages:
        pen.line((x * size, y * size, (x + 1) * size, y * size), fill=BLACK)


def _steps(random: Random, wanted: Wanted) -> tuple[set[Passage], Cell, Cell]:
    """Return a maze with several ways, a corner, and a cell at the wanted distance."""
    level, last = wanted.level, wanted.level - 1
    passages = tree(random, level)
    cells = [(x, y) for y in range(level) for x in range(level)]
    grid = [frozenset((cell, other)) for cell in cells for other in neighbours(cell, level)]
    closed = sorted({*grid} - passages, key=sorted)
    passages |= {*random.sample(closed, min(level - 1, len(closed)))}
    start = random.choice(((0, 0), (last, 0), (0, last), (last, last)))
    ways = ways_from(start, passages, level)
    length = int(wanted.answer)
    return passages, start, random.choice([c for c in cells if len(ways[c]) - 1 == length])


def _way(random: Random, wanted: Wanted) -> tuple[set[Passage], Cell, Cell]:
    """Return a maze in which two cells are joined or not, with one passage less than a tree has."""
    level = wanted.level
    cells = [(x, y) for y in range(level) for x in range(level)]
    while True:
        passages = tree(random, level)
        start, end = random.sample(cells, 2)
        way = ways_from(start, passages, level)[end]
        on_way = {frozenset(pair) for pair in pairwise(way)}
        closable = on_way if wanted.answer == NO else passages - on_way
        if closable:  # a way may go through all cells
            return passages - {random.choice(sorted(closable, key=sorted))}, start, end


TASK = PictureTask(
    meaning="cells of a side",
    levels=range(2, 17),
    level=4,
    questions={
        "way": Question(
            "Is there a way from the red cell to the blue cell? Answer Y or N.",
            "way?",
            lambda level: (YES, NO),
        ),
        "steps": Question(
            "How many steps has the shortest way from the red cell to the blue cell? Answer with a number.",
            "steps?",
            lambda level: numbers(1, 2 * (level - 1)),
        ),
    },
    least_pixels=lambda level: 4 * level,
    draw=draw,
)
