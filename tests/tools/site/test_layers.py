"""The drawing of the rooms: what the code imports, layered."""

import re

from tests.architecture.source import PACKAGE, ROOT
from tools.site import layers


def test_the_drawing_is_that_of_the_code() -> None:
    written = (ROOT / "docs" / "architecture.svg").read_text()
    assert written == layers.drawing(), "python -m tools.site.layers > docs/architecture.svg"


def test_every_room_is_drawn_and_described() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    drawn = set(re.findall(r">(\w+)</text>", layers.drawing()))
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert drawn == rooms == set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))


def test_the_reduction_has_the_same_paths() -> None:
    edges = {("a", "b"), ("b", "c"), ("a", "c"), ("a", "d"), ("d", "c")}
    assert layers.reduced(edges) == edges - {("a", "c")}
    assert layers.depths(edges) == {"a": 2, "b": 1, "d": 1, "c": 0}


def test_a_long_edge_has_a_station_in_every_row() -> None:
    edges = {("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")}
    depth = layers.depths(edges)
    drawn = layers.paths({("a", "d")}, depth)
    assert drawn == [["a", "a>d:2", "a>d:1", "d"]]
    found = layers.rows(layers.paths(edges, depth), depth)
    assert [set(row) for row in found] == [{"d"}, {"c", "a>d:1"}, {"b", "a>d:2"}, {"a"}]


def test_an_arrow_meets_only_the_boxes_it_joins() -> None:
    text = layers.drawing()
    boxes = [
        (float(x), float(y))
        for x, y, width in re.findall(r'<rect x="(\S+)" y="(\S+)" width="(\S+)"', text)
        if float(width) == layers.BOX
    ]
    # Upright parts of arrows are where rows are crossed.
    for path in re.findall(r'<path d="(M[^"]*)" marker', text):
        for x, y in re.findall(r" (\S+) (\S+)V", path):
            at = [box for box in boxes if box[1] == float(y)]
            assert all(not left <= float(x) <= left + layers.BOX for left, _ in at)
