"""A drawing of the rooms of `src/unmask` and their imports: `python -m tools.site.layers > docs/architecture.svg`.

Arrows are the imports that the code really has, without those that follow from others (the transitive
reduction); a room stands above everything that it imports. A long arrow has a place of its own in every row
that it crosses, so that it crosses no box (Sugiyama, Tagawa, Toda 1981); rows are ordered by the mean place
of their neighbours.
"""

from collections.abc import Iterable, Set
from functools import cache
from itertools import pairwise

from tests.architecture.source import imports, modules
from tests.architecture.test_imports import LEAVES

Edge = tuple[str, str]
# Pixels.
BOX, GAP, ROW, HEIGHT, MARGIN = 104, 26, 78, 34, 20
PASSING = 14  # the width of an arrow that crosses a row
SWEEPS = 12
STYLE = (
    "text{font:14px system-ui,sans-serif;fill:#1f2937;text-anchor:middle}"
    "rect{fill:#e0e7ff;stroke:#4f46e5}.leaf rect{fill:#f3f4f6;stroke:#6b7280}.leaf text{font-size:11px}"
    "path{fill:none;stroke:#8b93a7;stroke-width:1.3}"
)


@cache
def room_imports() -> frozenset[Edge]:
    """Return the pairs of rooms of which the first imports the second."""
    found = {
        (module.area, target[1])
        for module in modules()
        for one in imports(module.tree)
        if (target := one.target.split("."))[0] == "unmask" and len(target) > 1
    }
    rooms = {room for room, _ in found if room not in LEAVES and not room.startswith("__")}
    return frozenset((a, b) for a, b in found if a in rooms and b in rooms and a != b)


def reduced(edges: Set[Edge]) -> set[Edge]:
    """Return the edges of an acyclic graph that no longer path stands for."""
    below = {a: {b for x, b in edges if x == a} for pair in edges for a in pair}

    @cache
    def reached(room: str) -> frozenset[str]:
        return frozenset({room}.union(*(reached(one) for one in below[room])))

    return {(a, b) for a, b in edges if not any(b in reached(c) for c in below[a] - {b})}


def depths(edges: Set[Edge]) -> dict[str, int]:
    """Return the length of the longest path of imports below each room."""
    below = {a: {b for x, b in edges if x == a} for pair in edges for a in pair}

    @cache
    def depth(room: str) -> int:
        return max((depth(one) + 1 for one in below[room]), default=0)

    return {room: depth(room) for room in below}


def paths(edges: Iterable[Edge], depth: dict[str, int]) -> list[list[str]]:
    """Return each edge as its stations, one per row: a room, `a>b:row` in the rows it crosses, a room."""
    return [
        [a, *(f"{a}>{b}:{row}" for row in range(depth[a] - 1, depth[b], -1)), b]
        for a, b in sorted(edges)
    ]


def rows(drawn: list[list[str]], depth: dict[str, int]) -> list[list[str]]:
    """Return the stations of each row, the lowest first, ordered so that few edges cross."""
    level = {
        station: depth[path[0]] - index for path in drawn for index, station in enumerate(path)
    }
    found = [sorted(s for s in level if level[s] == row) for row in range(max(level.values()) + 1)]
    links = [pair for path in drawn for pair in pairwise(path)]
    near = {
        station: [a if b == station else b for a, b in links if station in (a, b)]
        for station in level
    }
    for _ in range(SWEEPS):
        for row in [*found, *reversed(found)]:
            place = _places(found)
            row.sort(key=lambda one: sum(place[other] for other in near[one]) / len(near[one]))
    return found


def _width(station: str) -> int:
    return PASSING if ">" in station else BOX


def _places(found: list[list[str]]) -> dict[str, float]:
    """Return the x of each station's middle; every row is centred on 0."""
    place: dict[str, float] = {}
    for row in found:
        x = -(sum(map(_width, row)) + GAP * (len(row) - 1)) / 2
        for station in row:
            place[station] = x + _width(station) / 2
            x += _width(station) + GAP
    return place


@cache
def drawing() -> str:
    """Return the SVG."""
    every = room_imports()
    edges, depth = reduced(every), depths(every)
    drawn = paths(edges, depth)
    found = rows(drawn, depth)
    place = _places(found)
    half = max(abs(x) + _width(station) / 2 for station, x in place.items())
    width, height = 2 * (half + MARGIN), len(found) * ROW + HEIGHT + 2 * MARGIN

    def at(station: str, row: int) -> tuple[float, float]:
        return place[station] + half + MARGIN, MARGIN + (len(found) - 1 - row) * ROW

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">',
        "<title>The rooms of unmask: each imports what its arrows lead to, and what that imports</title>",
        f"<style>{STYLE}</style>",
        '<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8" style="fill:#8b93a7;stroke:none"/></marker>',
    ]
    for path in drawn:
        points = [at(station, depth[path[0]] - index) for index, station in enumerate(path)]
        parts.append(f'<path d="{_curve(points)}" marker-end="url(#tip)"/>')
    for room, row in sorted(depth.items()):
        parts.append(_box(room, *at(room, row), BOX))
    leaves = "any room: " + ", ".join(sorted(LEAVES - {"__version__"}))
    y = MARGIN + len(found) * ROW
    parts.append(f'<g class="leaf">{_box(leaves, width / 2, y, width - 2 * MARGIN)}</g>')
    return "\n".join([*parts, "</svg>", ""])


def _curve(points: list[tuple[float, float]]) -> str:
    """Return a path from below the first box to the top of the last, upright in every row it crosses."""
    (x, y), *rest = points
    found = [f"M{x:g} {y + HEIGHT:g}"]
    y += HEIGHT
    for index, (to_x, to_y) in enumerate(rest):
        middle = (y + to_y) / 2
        found.append(f"C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}")
        x, y = to_x, to_y
        if index < len(rest) - 1:
            y += HEIGHT
            found.append(f"V{y:g}")
    return "".join(found)


def _box(text: str, x: float, y: float, width: float) -> str:
    """Return a box of that width, `x` its middle and `y` its top."""
    return (
        f'<rect x="{x - width / 2:g}" y="{y:g}" width="{width:g}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{x:g}" y="{y + HEIGHT / 2 + 5:g}">{text}</text>'
    )


if __name__ == "__main__":
    print(drawing(), end="")  # noqa: T201 - the output of the program
