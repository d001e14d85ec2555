"""`unmask report` and `unmask view` print the page that they wrote."""

import json
import sys
from pathlib import Path

import pytest

from tests.viewer.toy_run import record, write_lines, write_run
from unmask.cli.main import main


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command line; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["unmask", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_report_is_drawn_into_the_run_or_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = write_run(tmp_path / "run")
    assert run(monkeypatch, "report", place) == 0
    assert run(monkeypatch, "report", place, "--out", tmp_path / "mine.html") == 0
    assert capsys.readouterr().out.split() == [
        str(place / "report.html"),
        str(tmp_path / "mine.html"),
    ]
    assert (tmp_path / "mine.html").read_text() != ""


def test_reports_of_several_runs_are_one_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [write_run(tmp_path / name) for name in "ab"]
    assert run(monkeypatch, "report", *runs) == 0
    assert capsys.readouterr().out == "comparison.html\n"
    assert "Comparison of 2 runs" in (tmp_path / "comparison.html").read_text()


def test_view_writes_a_page_next_to_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = write_run(tmp_path / "run", trajectories=[record()])
    file = tmp_path / "responses.jsonl"
    write_lines(file, [json.loads(json.dumps(record())), {"text": "other"}])
    assert run(monkeypatch, "view", place) == 0
    assert run(monkeypatch, "view", file) == 0
    shown = capsys.readouterr()
    assert shown.out.split() == [str(place / "view.html"), str(tmp_path / "responses.html")]
    assert "1 records that cannot be played" in shown.err
    assert run(monkeypatch, "view", tmp_path / "none.jsonl") == 2
    assert "no such file" in capsys.readouterr().err
