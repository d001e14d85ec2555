"""Every run in a line."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.runs.past_runs import START, past_run
from unmask.runs.listing import accuracy_text, duration, list_runs

NUMBERS = {"reward": 0.8125, "accuracy": 0.75, "eval_accuracy": 0.9, "update_wall_s": 90.0}


def test_a_run_is_a_line(tmp_path: Path) -> None:
    past_run(tmp_path / "a", metrics=[{"step": 4, **NUMBERS}])
    past_run(tmp_path / "b")
    now = datetime.fromisoformat(START) + timedelta(hours=5)
    heading, first, second = list_runs(tmp_path, now).splitlines()
    assert heading.split()[:5] == ["run", "kind", "task", "step", "reward"]
    assert first.split() == [
        "a",
        "rl",
        "chain_sum",
        "4/9",
        "0.812",
        "75.0%",
        "90.0%",
        "5.0",
        "h",
        "2",
        "min",
    ]
    assert second.split() == ["b", "rl", "chain_sum", "0/9", "-", "-", "-", "5.0", "h", "0", "s"]


def test_a_run_itself_is_listed(tmp_path: Path) -> None:
    assert "\nmine  rl" in list_runs(past_run(tmp_path / "mine"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59, "59 s"), (90, "2 min"), (5400, "1.5 h"), (86400, "24 h"), (2e5, "2 d")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_accuracy_comes_with_its_interval() -> None:
    low_high = {"eval_accuracy_low": 0.25, "eval_accuracy_high": 0.75}
    assert accuracy_text({"eval_accuracy": 0.5, **low_high}) == "50.0% (25.0% .. 75.0%)"
    assert accuracy_text({"eval_accuracy": 0.5}) == "50.0%"
    assert accuracy_text({"eval_accuracy": None}) == "-"
