"""A chart holds its points, where they belong, and says what it could not show."""

import re
from itertools import pairwise

from tests.viewer.page import Page
from tests.viewer.toy_run import HOSTILE
from unmask.viewer.charts import HEIGHT, LEFT, RIGHT, WIDTH, Chart, Line, draw_chart
from unmask.viewer.series import History, history

RAMP = [{"step": step, "x": float(step), "y": 1.0} for step in range(1, 11)]


def points(path: str) -> list[tuple[float, float]]:
    """Return the corners of a path."""
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def draw(chart: Chart, curves: History) -> Page:
    return Page(draw_chart(chart, curves, 0)[0])


def test_line_goes_through_its_points() -> None:
    curves = history(RAMP)
    page = draw(Chart("Ramp", "", [Line("x", curves.columns["x"])]), curves)
    (path,) = page.all("path", "line")
    drawn = points(path.attributes["d"])
    assert len(drawn) == len(page.all("circle", "dot")) == 10
    assert drawn[0][0] == LEFT and drawn[-1][0] == WIDTH - RIGHT
    xs, ys = zip(*drawn, strict=True)
    gaps = {round(b - a, 1) for a, b in pairwise(xs)}
    assert max(gaps) - min(gaps) < 0.2
    assert list(ys) == sorted(ys, reverse=True) and max(ys) < HEIGHT


def test_long_curve_is_smoothed_over_its_points() -> None:
    curves = history([{"step": step, "x": float(step % 2)} for step in range(200)])
    page = draw(Chart("Noise", "", [Line("x", curves.columns["x"])]), curves)
    assert len(page.all("path", "raw")) == len(page.all("path", "smooth")) == 1
    page = draw(Chart("Plan", "", [Line("x", curves.columns["x"])], is_noisy=False), curves)
    assert not page.all("path", "smooth")


def test_interval_is_a_band_around_its_line() -> None:
    rows = [{"step": s, "a": 0.5, "low": 0.4, "high": 0.7} for s in (10, 20)]
    columns = (curves := history(rows)).columns
    line = Line("a", columns["a"], (columns["low"], columns["high"]))
    page = draw(Chart("Accuracy", "", [line], is_share=True), curves)
    (band,), (middle,) = page.all("path", "interval"), page.all("path", "line")
    ys = [y for _, y in points(band.attributes["d"])]
    y = points(middle.attributes["d"])[0][1]
    assert len(ys) == 4 and min(ys) < y < max(ys)
    assert "95 % interval" in page.text


def test_thinned_curve_shows_its_extremes() -> None:
    curves = history(RAMP, max_points=5)
    page = draw(Chart("Ramp", "", [Line("x", curves.columns["x"])]), curves)
    assert len(page.all("path", "extremes")) == 1


def test_gap_breaks_the_line_and_is_told() -> None:
    rows = [{"step": s, "x": None if s in (3, 4) else 1.0} for s in range(1, 7)]
    curves = history(rows)
    page = draw(Chart("Gap", "", [Line("x", curves.columns["x"])]), curves)
    assert page.all("path", "line")[0].attributes["d"].count("M") == 2
    assert "Not finite at 2 steps." in page.text


def test_spike_is_told() -> None:
    curves = history([{"step": s, "x": 9e5 if s == 50 else s % 5 + 1.0} for s in range(100)])
    page = draw(Chart("Norm", "Before clipping.", [Line("x", curves.columns["x"])]), curves)
    assert "Off the top: up to 900,000." in page.text


def test_stack_stands_on_itself() -> None:
    curves = history(RAMP)
    lines = [Line(name, curves.columns[name]) for name in ("x", "y")]
    page = draw(Chart("Time", "", lines, is_stacked=True), curves)
    lower, upper = (points(path.attributes["d"]) for path in page.all("path", "area"))
    assert lower[:10] == list(reversed(upper[10:]))


def test_one_step_is_a_chart() -> None:
    curves = history(RAMP[:1])
    assert draw(Chart("Start", "", [Line("x", curves.columns["x"])]), curves).all("circle")


def test_read_out_gives_the_numbers() -> None:
    rows = [{"step": s, "x": s / 3, **({"e": 1.0} if s == 2 else {})} for s in (1, 2, 3)]
    columns = (curves := history(rows)).columns
    _, data = draw_chart(Chart("x", "", [Line(n, columns[n]) for n in ("x", "e")]), curves, 0)
    assert data["lines"] == [
        {"at": None, "values": [0.3333, 0.6667, 1.0]},
        {"at": (1,), "values": [1.0]},
    ]


def test_hostile_names_are_text() -> None:
    curves = history(RAMP)
    text = HOSTILE[0]
    page = draw(Chart(text, text, [Line(text, curves.columns["x"])]), curves)
    assert not page.all("script")
    assert page.all("h3")[0].text == text
