"""A live report is drawn at once, then at a bounded cost, and a last time however the run ends."""

from itertools import pairwise
from pathlib import Path

import pytest

from tests.viewer.toy_run import metrics, write_lines, write_run
from unmask.viewer import live
from unmask.viewer.live import LiveReport


def text_of(directory: Path) -> str:
    return (directory / "report.html").read_text()


def test_first_refresh_draws_and_the_next_waits(tmp_path: Path) -> None:
    write_run(tmp_path)
    with LiveReport(tmp_path) as report:
        assert not (tmp_path / "report.html").exists()
        report.refresh()
        first = text_of(tmp_path)
        assert "running, step 40 of 40" in first
        write_lines(tmp_path / "metrics.jsonl", metrics(39))
        report.refresh()
        assert text_of(tmp_path) == first
    assert "stopped at step 39 of 40" in text_of(tmp_path)


@pytest.mark.parametrize(("cost_s", "pause_s"), [(0.0, 30.0), (1.0, 30.0), (4.0, 80.0)])
def test_drawing_takes_a_small_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost_s: float, pause_s: float
) -> None:
    now, drawn_at = 100.0, list[float]()

    def draw(directory: Path, is_running: bool = False) -> None:
        nonlocal now
        drawn_at.append(now)
        now += cost_s

    monkeypatch.setattr(live, "write_report", draw)
    report = LiveReport(tmp_path, clock=lambda: now)
    while now < 1000.0:
        report.refresh()
        now += 1.0  # a step
    gaps = {b - a for a, b in pairwise(drawn_at)}
    assert drawn_at[0] == 100.0
    assert gaps <= {cost_s + pause_s, cost_s + pause_s + 1.0} and gaps


def test_failing_run_is_drawn_and_its_error_kept(tmp_path: Path) -> None:
    write_run(tmp_path)
    with pytest.raises(RuntimeError, match="reward"), LiveReport(tmp_path):
        raise RuntimeError("reward")
    assert "finished" in text_of(tmp_path)


def test_drawing_does_not_hide_why_a_run_failed(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(RuntimeError, match="disk"), LiveReport(gone):
        raise RuntimeError("disk")
    with pytest.raises(FileNotFoundError), LiveReport(gone):
        pass
