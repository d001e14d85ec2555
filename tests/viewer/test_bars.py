"""Bars are as high as their counts."""

from tests.viewer.page import Page
from unmask.viewer.bars import draw_bars


def test_bars_are_as_high_as_their_counts() -> None:
    page = Page(draw_bars("Length", "note", [(1, 10, 30, 10), (11, 20, 0, 20)]))
    heights = [float(rect.attributes["height"]) for rect in page.all("rect")]
    right, others, none, last = heights
    assert none == 0
    assert abs(right - 3 * others) < 0.3 and abs(last - 2 * others) < 0.3
    assert [t.text for t in page.all("title")] == [
        "1 to 10 tokens: 30 right, 10 others",
        "11 to 20 tokens: 0 right, 20 others",
    ]
    assert "20 tokens" in [t.text for t in page.all("text")]
