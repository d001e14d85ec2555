"""The half that the answer names has more circles, the larger circle, the darker one."""

from random import Random

import numpy as np
import pytest

from tests.tasks.pictures.blobs import areas
from unmask.tasks.picture import BLUE, Wanted
from unmask.tasks.pictures.comparing import LEFT, RIGHT, TASK


@pytest.mark.parametrize("question", list(TASK.questions))
@pytest.mark.parametrize("level", [2, 6, 30])
def test_the_answer_names_the_higher_half(question: str, level: int):
    pixels = TASK.least_pixels(level)
    for seed in range(60):
        answer = (LEFT, RIGHT)[seed % 2]
        picture = TASK.draw(Random(seed), Wanted(question, answer, pixels, level)).picture
        half = pixels // 2
        halves = [
            picture.crop(box)
            for box in ((0, 0, half, pixels), (half + pixels % 2 + 1, 0, pixels, pixels))
        ]
        match question:
            case "more":
                left, right = (len(areas(one, BLUE)) for one in halves)
            case "larger":
                left, right = (sum(areas(one, BLUE)) for one in halves)
            case _:
                # Without the line in the middle, the darkest grey is that of the circle.
                left, right = (
                    -int(np.asarray(one)[:, 1 - at : one.width - at].min())
                    for at, one in enumerate(halves)
                )
        assert (LEFT if left > right else RIGHT) == answer
        assert left != right
