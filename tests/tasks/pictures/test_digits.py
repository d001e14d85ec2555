"""Each written digit is one of scikit-learn's with the value that the answer states."""

from random import Random

import numpy as np
from sklearn.datasets import load_digits

from unmask.tasks.picture import Wanted
from unmask.tasks.pictures.digits import TASK


def test_digits_are_those_of_the_answer():
    found = load_digits()
    values: dict[bytes, set[int]] = {}
    for image, value in zip(found.images, found.target, strict=True):
        values.setdefault(image.astype(np.uint8).tobytes(), set()).add(int(value))
    for seed in range(30):
        answer = f"{seed * 37 % 100:02}"
        drawing = TASK.draw(Random(seed), Wanted("digits", answer, 32, 2))
        assert [values[source] for source in drawing.sources] == [{int(d)} for d in answer]
        # Each half of the picture has ink.
        ink = 255 - np.asarray(drawing.picture.convert("L"))
        assert ink[:, :16].max() > 100
        assert ink[:, 16:].max() > 100


def test_a_digit_at_full_size_is_its_pixels():
    drawing = TASK.draw(Random(0), Wanted("digits", "7", 8, 1))
    greys = np.frombuffer(drawing.sources[0], dtype=np.uint8).reshape(8, 8).astype(int)
    assert (np.asarray(drawing.picture)[..., 0] == 255 - 255 * greys // 16).all()
