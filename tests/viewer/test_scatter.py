"""Points stand where their numbers are, with their intervals."""

import re

from tests.viewer.page import Page
from tests.viewer.toy_run import HOSTILE
from unmask.viewer.scatter import Mark, draw_scatter


def test_points_stand_in_the_order_of_their_numbers() -> None:
    marks = [
        Mark("slow", 1.0, 0.9, (0.9, 1.1), (0.8, 0.95)),
        Mark("fast", 4.0, 0.5, (3.5, 4.5), (0.4, 0.6)),
    ]
    page = Page(draw_scatter("Accuracy", "note", marks))
    slow, fast = (
        (float(c.attributes["cx"]), float(c.attributes["cy"])) for c in page.all("circle")
    )
    assert slow[0] < fast[0] and slow[1] < fast[1]  # y grows downwards
    assert [b.text for b in page.all("b")] == ["90 %", "50 %"]
    (whisker, _) = (p.attributes["d"] for p in page.all("path", "whisker"))
    left, y, right, x, low, high = map(float, re.findall(r"-?\d+\.\d", whisker))
    assert left < x < right and high < y < low
    assert (x, y) == slow


def test_one_point_without_width_is_drawn_and_names_are_text() -> None:
    page = Page(draw_scatter(HOSTILE[0], HOSTILE[1], [Mark(HOSTILE[1], 0, 0, (0, 0), (0, 0))]))
    assert not page.all("img") and not page.all("script")
    assert len(page.all("circle")) == 1
