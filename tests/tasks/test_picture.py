"""What tasks of pictures draw with."""

from random import Random

from tests.tasks.pictures.blobs import areas
from unmask.tasks.picture import BLUE, RED, draw_circles, numbers, white_square


def test_circles_do_not_touch_and_stay_in_the_area():
    for seed in range(40):
        picture, pen = white_square(30)
        draw_circles(pen, Random(seed), (10, 0, 20, 15), 3, [RED] * 5 + [BLUE] * 4)
        assert (len(areas(picture, RED)), len(areas(picture, BLUE))) == (5, 4)
        outside = (picture.crop(box) for box in ((0, 0, 10, 30), (0, 15, 30, 30)))
        assert all(one.getcolors() == [(one.width * one.height, (255,) * 3)] for one in outside)


def test_numbers_hold_both_ends():
    assert numbers(1, 3) == ["1", "2", "3"]
