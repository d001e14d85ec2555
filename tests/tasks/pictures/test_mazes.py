"""Answers of mazes are those that a flood of the drawn pixels finds."""

from random import Random

import numpy as np
import pytest
from scipy import ndimage

from tests.tasks.pictures.blobs import mask
from unmask.tasks.picture import BLACK, BLUE, RED, Wanted
from unmask.tasks.pictures.mazes import NO, TASK, YES


def cell(picture: object, colour: tuple[int, int, int], size: int) -> tuple[int, int]:
    """Return row and column of the cell that has a colour."""
    rows, columns = np.nonzero(mask(picture, colour))
    return int(rows.mean()) // size, int(columns.mean()) // size


def steps(picture: object, level: int, pixels: int) -> int | None:
    """Return the steps from red to blue, of a flood from cell to cell; None where it does not arrive."""
    size = pixels // level
    is_border = mask(picture, BLACK)
    start, end = cell(picture, RED, size), cell(picture, BLUE, size)
    distance = {start: 0}
    waiting = [start]
    for row, column in waiting:
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            other = row + down, column + right
            # The border between two cells is the first row or column of pixels of the later one.
            y = max(row, other[0]) * size if down else row * size + size // 2
            x = max(column, other[1]) * size if right else column * size + size // 2
            y, x = min(y, pixels - 1), min(x, pixels - 1)
            if other not in distance and not is_border[y, x]:
                distance[other] = distance[row, column] + 1
                waiting.append(other)
    return distance.get(end)


@pytest.mark.parametrize(("level", "pixels"), [(2, 8), (4, 32), (5, 32), (10, 64)])
def test_steps_are_those_of_the_shortest_way(level: int, pixels: int):
    answers = TASK.questions["steps"].answers(level)
    for seed in range(2 * len(answers) + 20):
        answer = answers[seed % len(answers)]
        picture = TASK.draw(Random(seed), Wanted("steps", answer, pixels, level)).picture
        assert steps(picture, level, pixels) == int(answer)


@pytest.mark.parametrize(("level", "pixels"), [(2, 8), (4, 32), (5, 32), (10, 64)])
def test_a_way_is_there_or_not(level: int, pixels: int):
    lengths: dict[str, list[int]] = {YES: [], NO: []}
    for seed in range(80):
        answer = (YES, NO)[seed % 2]
        picture = TASK.draw(Random(seed), Wanted("way", answer, pixels, level)).picture
        # Pixels that are no borders connect where cells do, here by the library's own flood.
        labels, _ = ndimage.label(~mask(picture, BLACK))
        red, blue = (labels[mask(picture, colour)][0] for colour in (RED, BLUE))
        assert (red == blue) == (answer == YES)
        assert (steps(picture, level, pixels) is not None) == (answer == YES)
        lengths[answer].append(int(mask(picture, BLACK).sum()))
    # The length of the borders does not give the answer away.
    assert (
        abs(np.mean(lengths[YES]) - np.mean(lengths[NO])) < 3 * np.std(lengths[YES]) / 40**0.5 + 1
    )
