"""The section of an evaluation shows the numbers of its files and leaves out what is missing."""

from pathlib import Path
from typing import Any

import pytest

from tests.viewer.page import Page
from tests.viewer.toy_run import HOSTILE, SPEED, SUMMARY, record, write_run
from unmask.viewer.evaluation import evaluation_charts, evaluation_table
from unmask.viewer.report import report_html

FOUND: dict[str, Any] = {**SUMMARY, "speed": SPEED}


def table(page: Page) -> dict[str, list[str]]:
    """Return the cells of each line of the table, one per sampling."""
    lines = [e.text for e in page.all("th") if e.parents[-2:] == ("tbody", "tr")]
    cells = [e.text for e in page.all("td")]
    width = len(cells) // len(lines)
    return {line: cells[place * width :][:width] for place, line in enumerate(lines)}


def test_every_sampling_has_a_column() -> None:
    other = {**FOUND, "accuracy": 0.5, "pass_at": {}, "speed": {}}
    page = Page(evaluation_table({"static": FOUND, "dynamic": other}))
    names = [e.text for e in page.all("th") if e.parents[-2:] == ("thead", "tr")]
    assert names == ["", "static", "dynamic"]
    lines = table(page)
    assert lines["avg@n"] == ["75 % (70 % .. 80 %)", "50 % (70 % .. 80 %)"]
    assert lines["pass@2"] == ["90 % (80 % .. 95 %)", "-"]
    assert lines["maj@2"][0] == "80 % (70 % .. 90 %)"
    assert lines["tokens / forward"] == ["1.4", "-"]
    assert lines["time"] == ["1 min 15 s", "-"]
    assert [lines[name][0] for name in ("correct", "timeout", "crash", "failed")] == [
        *("954", "11", "3", "4")
    ]


def test_accuracy_against_speed_and_lengths_are_charts() -> None:
    speed, *lengths = evaluation_charts({"a": FOUND, "b": FOUND})
    assert speed.title == "Accuracy against speed"
    assert [chart.title for chart in lengths] == ["Response length, a", "Response length, b"]
    point = {"label": "a", "x": 1.4, "y": 0.75, "across": [1.2, 1.6], "up": [0.7, 0.8]}
    assert speed.data["points"] == [point, {**point, "label": "b"}]
    assert lengths[0].data["bars"] == SUMMARY["lengths"]


@pytest.mark.parametrize("broken", ["no", None, [], {}, -1, 10**400, [1], {"first": 1}])
def test_malformed_values_are_left_out(broken: object) -> None:
    for name in (*SUMMARY, "speed"):
        samplings = {HOSTILE[0]: {**FOUND, name: broken}}
        Page(evaluation_table(samplings))
        assert all(chart.data for chart in evaluation_charts(samplings))
    found = {**FOUND, "lengths": [broken], "pass_at": {"2": broken}}
    assert table(Page(evaluation_table({"a": found})))["pass@2"] == ["-"]
    assert len(list(evaluation_charts({"a": found}))) == 1


def test_report_of_an_evaluation_has_table_charts_and_responses(tmp_path: Path) -> None:
    page = Page(report_html(write_run(tmp_path, kind="eval", trajectories=[record()])))
    assert page.one("samplings") and page.one("player")
    kinds = [chart["kind"] for chart in page.data("charts-data")["charts"]]
    assert kinds == ["points", "bars"]
    assert [e.attributes["data-chart"] for e in page.all("figure", "chart")] == ["0", "1"]
    assert len(page.data("traces-data")) == 1
