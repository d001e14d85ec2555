"""The matrix of versions and extras: rows name what exists, and the page shows the committed results."""

import tomllib

import pytest

from tests.architecture.source import ROOT
from tools.matrix import BEGIN, PAGE, ROWS, outcome, page, read_results, table

REPORT = """<testsuites><testsuite>
<testcase classname="tests.a" name="test_one"/>
<testcase classname="tests.a" name="test_two"><failure message="no"/></testcase>
<testcase classname="tests.a" name="test_three"><skipped message="wandb is not installed"/></testcase>
</testsuite></testsuites>"""


def test_rows_name_files_and_extras_that_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert {extra for row in ROWS for extra in row.extras} <= extras.keys()
    missing = [path for row in ROWS for path in row.tests if not (ROOT / path).is_file()]
    assert not missing


def test_the_page_has_the_committed_results() -> None:
    text = PAGE.read_text()
    assert page(text, read_results()) == text, "run: python tools/matrix.py --table"
    assert set(read_results()) <= {row.name for row in ROWS}


def test_a_row_without_a_result_is_not_run() -> None:
    lines = table({}).splitlines()[2:]
    assert len(lines) == len(ROWS)
    assert all("| not run |" in line for line in lines)
    with pytest.raises(ValueError, match="not enough values"):
        page(PAGE.read_text().replace(BEGIN, ""), {})


def test_a_report_is_counted() -> None:
    found = outcome(REPORT)
    assert (found["passed"], found["failed"], found["skipped"]) == (1, ["tests.a.test_two"], 1)
    assert found["reasons"] == ["wandb is not installed"]


def test_the_workflow_runs_every_row_and_the_gate() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert "run: .ci/run" in text
    assert "run: python tools/matrix.py ${{ matrix.row }}" in text
    for row in ROWS:
        assert f"- row: {row.name}\n" in text
