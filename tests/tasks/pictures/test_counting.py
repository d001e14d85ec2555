"""Red circles in the picture are as many as the answer states."""

from random import Random

import pytest

from tests.tasks.pictures.blobs import areas
from unmask.tasks.picture import BLUE, GREEN, RED, Wanted
from unmask.tasks.pictures.counting import TASK


@pytest.mark.parametrize(("pixels", "level"), [(32, 8), (64, 20), (20, 8)])
def test_the_answer_is_the_number_of_red_circles(pixels: int, level: int):
    others = set[int]()
    for seed in range(20 * level):
        answer = str(1 + seed % level)
        picture = TASK.draw(Random(seed), Wanted("red", answer, pixels, level)).picture
        assert len(areas(picture, RED)) == int(answer)
        others.add(len(areas(picture, BLUE)) + len(areas(picture, GREEN)))
    assert others == {*range(level + 1)}
