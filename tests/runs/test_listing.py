"""Every run has a line; damaged files are named below the table."""

from datetime import datetime, timedelta
from pathlib import Path

from tests.runs.past_runs import START, past_run
from unmask.runs.listing import accuracy_text, list_runs

METRICS = {"reward": 0.8125, "accuracy": 0.75, "eval_accuracy": 0.9, "update_wall_s": 90.0}


def test_a_run_is_a_line(tmp_path: Path) -> None:
    past_run(tmp_path / "a", metrics=[{"step": 4, **METRICS}])
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
        *("5", "h", "0", "min"),
        *("1", "min", "30", "s"),
    ]
    assert second.split() == [
        "b",
        "rl",
        "chain_sum",
        "0/9",
        "-",
        "-",
        "-",
        *("5", "h", "0", "min"),
        *("0.0", "s"),
    ]


def test_a_run_itself_is_listed(tmp_path: Path) -> None:
    assert "\nmine  rl" in list_runs(past_run(tmp_path / "mine"))


def test_damaged_files_are_named_below_the_table(tmp_path: Path) -> None:
    path = past_run(tmp_path / "a", metrics=[{"step": 4, **METRICS}])
    with (path / "metrics.jsonl").open("a") as file:
        file.write("{]\n")
    past_run(tmp_path / "b")
    table = list_runs(tmp_path).splitlines()
    assert [line.split()[0] for line in table[:3]] == ["run", "a", "b"]
    assert table[3:] == [f"{path / 'metrics.jsonl'}: 1 damaged line left out."]


def test_accuracy_comes_with_its_interval() -> None:
    low_high = {"eval_accuracy_low": 0.25, "eval_accuracy_high": 0.75}
    assert accuracy_text({"eval_accuracy": 0.5, **low_high}) == "50.0% (25.0% .. 75.0%)"
    assert accuracy_text({"eval_accuracy": 0.5}) == "50.0%"
    assert accuracy_text({"eval_accuracy": None}) == "-"
