"""Runs are recognised, read while they are written, and refused by name when a file is broken."""

import json
from pathlib import Path

import pytest

from tests.runs.past_runs import START, past_run
from unmask.runs.history import find_runs, read_lines, read_run

LINES = [
    {"step": 1, "reward": 0.5, "eval_accuracy": 0.25, "update_wall_s": 2.0, "update_cpu_s": 9.0},
    {"step": 2, "reward": None, "update_wall_s": 1.5, "rollout_wall_s": 0.5},
]


def test_the_last_value_of_every_metric(tmp_path: Path) -> None:
    run = read_run(past_run(tmp_path / "a", metrics=LINES))
    assert (run.kind, run.task, run.steps, run.wall_s) == ("rl", "chain_sum", 2, 4.0)
    assert run.numbers["reward"] is None
    assert run.numbers["eval_accuracy"] == 0.25
    assert run.start_time.isoformat() == START


def test_a_line_that_is_being_written_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2')
    assert list(read_lines(path)) == [{"step": 1}]
    assert list(read_lines(tmp_path / "absent.jsonl")) == []


@pytest.mark.parametrize(
    ("line", "said"), [("{]", "not JSON"), ("3", "expected a JSON object"), ("{}", "has no step")]
)
def test_a_broken_line_is_named(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n')
    with pytest.raises(ValueError, match=f"metrics.jsonl, line 2: {said}"):
        list(read_lines(path))


def test_an_evaluation_is_read_under_the_names_of_training(tmp_path: Path) -> None:
    path = past_run(tmp_path / "a")
    (path / "config.json").write_text('{"split": "test", "task": {"name": "gsm8k"}}')
    summary = {"accuracy": 0.5, "ci95": [0.4, 0.6], "n": 10, "samples": 1, "truncated": 0.1}
    speed = {"wall_s": 3.0, "tokens_per_forward": 1.5, "tokens_per_forward_ci95": [1, 2]}

    def write(*names: str) -> None:
        for file, found in (("summary", summary), ("speed", speed)):
            text = json.dumps({"samplings": dict.fromkeys(names, found)})
            (path / f"{file}.json").write_text(text)

    write("dynamic")
    run = read_run(path)
    assert (run.kind, run.task, run.wall_s) == ("eval", "gsm8k", 3.0)
    expected = {
        "eval_accuracy": 0.5,
        "eval_accuracy_low": 0.4,
        "eval_accuracy_high": 0.6,
        "eval_truncated": 0.1,
        "eval_wall_s": 3.0,
        "eval_tokens_per_forward": 1.5,
    }
    assert run.numbers == expected
    write("dynamic", "static")
    assert read_run(path).numbers == {
        f"{sampling} {name}": value
        for sampling in ("dynamic", "static")
        for name, value in expected.items()
    }


def test_runs_are_found_below_and_models_are_none(tmp_path: Path) -> None:
    past_run(tmp_path / "quickstart" / "rl")
    (tmp_path / "quickstart" / "rl" / "model").mkdir()
    (tmp_path / "quickstart" / "rl" / "model" / "config.json").write_text("{}")
    past_run(tmp_path / "b")
    names = [str(run.path.relative_to(tmp_path)) for run in find_runs(tmp_path)]
    assert names == ["b", "quickstart/rl"]
    assert [run.path.name for run in find_runs(tmp_path / "b")] == ["b"]


def test_no_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no run"):
        find_runs(tmp_path)
    with pytest.raises(ValueError, match="absent: no such directory"):
        find_runs(tmp_path / "absent")
    with pytest.raises(ValueError, match="is not a run"):
        read_run(tmp_path)
