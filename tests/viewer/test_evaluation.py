"""The section of an evaluation says what its files say, and draws whatever is there."""

from pathlib import Path
from typing import Any

import pytest

from tests.viewer.page import Page
from tests.viewer.toy_run import HOSTILE, SPEED, SUMMARY, record, write_run
from unmask.viewer.evaluation import samplings_section
from unmask.viewer.report import report_html

FOUND: dict[str, Any] = {**SUMMARY, "speed": SPEED}


def table(page: Page) -> dict[str, list[str]]:
    """Return the table's lines: what each says of every sampling."""
    lines = [e.text for e in page.all("th") if e.parents[-2:] == ("tbody", "tr")]
    cells = [e.text for e in page.all("td")]
    width = len(cells) // len(lines)
    return {line: cells[place * width :][:width] for place, line in enumerate(lines)}


def test_every_sampling_has_a_column() -> None:
    other = {**FOUND, "accuracy": 0.5, "pass_at": {}, "speed": {}}
    page = Page(samplings_section({"static": FOUND, "dynamic": other}))
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


def test_it_draws_accuracy_against_speed_and_lengths() -> None:
    page = Page(samplings_section({"a": FOUND, "b": FOUND}))
    titles = [heading.text for heading in page.all("h3")]
    assert titles == ["Accuracy against speed", "Response length, a", "Response length, b"]
    assert len(page.all("circle")) == 2


def test_a_training_run_has_no_such_section() -> None:
    assert samplings_section({}) == ""


@pytest.mark.parametrize("broken", ["no", None, [], {}, -1, 10**400, [1], {"first": 1}])
def test_broken_values_are_left_out(broken: object) -> None:
    for name in (*SUMMARY, "speed"):
        Page(samplings_section({HOSTILE[0]: {**FOUND, name: broken}}))
    Page(samplings_section({"a": {**FOUND, "lengths": [broken], "pass_at": {"2": broken}}}))


def test_the_report_of_an_evaluation_holds_it_and_its_responses(tmp_path: Path) -> None:
    page = Page(report_html(write_run(tmp_path, kind="eval", trajectories=[record()])))
    assert page.one("samplings") and page.one("player")
    assert len(page.data("traces-data")) == 1
