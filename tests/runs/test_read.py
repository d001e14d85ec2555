"""Runs are read while they are written; damaged files are left out and named, or refused."""

import json
from pathlib import Path

import pytest

from tests.runs.past_runs import START, past_run
from tests.viewer.toy_run import record, write_lines, write_run
from unmask.runs import read
from unmask.runs.read import (
    check_run,
    find_runs,
    is_number,
    read_lines,
    read_run,
    read_spread,
    read_tail,
)

LINES = [
    {"step": 1, "reward": 0.5, "eval_accuracy": 0.25, "update_wall_s": 2.0, "update_cpu_s": 9.0},
    {"step": 2, "reward": None, "update_wall_s": 1.5, "rollout_wall_s": 0.5},
]


def test_last_value_of_every_metric(tmp_path: Path) -> None:
    run = read_run(past_run(tmp_path / "a", metrics=LINES))
    assert (run.kind, run.task, run.step, run.wall_s) == ("rl", "chain_sum", 2, 4.0)
    assert run.last_metrics["reward"] is None
    assert run.last_metrics["eval_accuracy"] == 0.25
    assert run.start_time is not None and run.start_time.isoformat() == START


def test_empty_directory_is_an_empty_run(tmp_path: Path) -> None:
    files = read_run(tmp_path)
    assert (files.kind, files.step, files.num_steps, len(files.metrics)) == (None, 0, None, 0)
    assert (files.task, files.start_time, files.last_metrics, files.wall_s) == ("", None, {}, 0)


@pytest.mark.parametrize("kind", ["rl", "sft", "eval"])
def test_kind_follows_from_the_configuration(tmp_path: Path, kind: str) -> None:
    assert read_run(write_run(tmp_path, kind=kind)).kind == kind


def test_unfinished_last_line_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2')
    assert list(read_lines(path)) == [{"step": 1}]
    assert list(read_lines(tmp_path / "absent.jsonl")) == []
    files = read_run(tmp_path)
    assert [row["step"] for row in files.metrics] == [1]
    assert not files.problems


def test_damaged_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\xfe\n[1]\n{"loss": 1}\n\n{"step": 2}\n')
    files = read_run(tmp_path)
    assert [row["step"] for row in files.metrics] == [1, 2]
    assert files.problems == [f"{path}: 3 damaged lines left out."]


@pytest.mark.parametrize(
    ("line", "message"),
    [("{]", "not JSON"), ("3", "expected a JSON object"), ("{}", "has no step")],
)
def test_damaged_line_is_refused_by_name(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n')
    with pytest.raises(ValueError, match=f"metrics.jsonl, line 2: {message}"):
        list(read_lines(path))


def test_steps_written_again_replace_the_first_ones(tmp_path: Path) -> None:
    rows = [{"step": step, "loss": loss} for step, loss in [(1, 1), (2, 1), (3, 1), (2, 5)]]
    write_lines(tmp_path / "metrics.jsonl", rows)
    assert [row["loss"] for row in read_run(tmp_path).metrics] == [1, 5]


def test_damaged_tables_are_empty_and_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "summary.json").write_text("[1]")
    files = read_run(tmp_path)
    assert not files.config and not files.samplings
    config, summary = sorted(files.problems)
    assert "config.json: not JSON" in config
    assert "summary.json: expected a JSON object, found list" in summary
    for name, text in (("summary", '{"samplings": {"a": {"n": 3}, "b": 4}}'), ("speed", "{")):
        (tmp_path / f"{name}.json").write_text(text)
    assert read_run(tmp_path).samplings == {"a": {"n": 3, "speed": {}}, "b": {"speed": {}}}


def test_evaluation_is_read_under_the_names_of_training(tmp_path: Path) -> None:
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
    assert run.last_metrics == expected
    write("dynamic", "static")
    assert read_run(path).last_metrics == {
        f"{sampling} {name}": value
        for sampling in ("dynamic", "static")
        for name, value in expected.items()
    }


def test_runs_are_found_below_a_directory_and_models_are_not_runs(tmp_path: Path) -> None:
    past_run(tmp_path / "quickstart" / "rl")
    (tmp_path / "quickstart" / "rl" / "model").mkdir()
    (tmp_path / "quickstart" / "rl" / "model" / "config.json").write_text("{}")
    past_run(tmp_path / "b")
    names = [str(run.path.relative_to(tmp_path)) for run in find_runs(tmp_path)]
    assert names == ["b", "quickstart/rl"]
    assert [run.path.name for run in find_runs(tmp_path / "b")] == ["b"]


def test_directories_without_a_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no run"):
        find_runs(tmp_path)
    with pytest.raises(ValueError, match="absent: no such directory"):
        find_runs(tmp_path / "absent")
    with pytest.raises(ValueError, match="is not a run"):
        check_run(tmp_path)


def test_is_number() -> None:
    assert all(map(is_number, [0, -1, 2.5, 1e300]))
    assert not any(map(is_number, [None, True, "1", float("nan"), float("inf"), 10**400]))


def test_tail_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trajectories.jsonl"
    write_lines(path, [record(step) for step in range(1, 21)])
    size = path.stat().st_size
    monkeypatch.setattr(read, "TAIL_BYTES", size // 4)
    steps = [found["step"] for found in read_tail(path)]
    assert steps == [17, 18, 19, 20] or steps == [16, 17, 18, 19, 20]
    assert read_tail(tmp_path / "none") == []


def test_spread_reaches_from_the_first_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "trajectories.jsonl"
    write_lines(path, [record(step) for step in range(1, 101)])
    steps = [found["step"] for found in read_spread(path, 10)]
    assert steps[0] == 1 and steps[-1] > 85
    assert len(steps) == len(set(steps)) == 10
    assert read_spread(tmp_path / "none", 10) == []


def test_spread_of_a_short_file_is_the_file(tmp_path: Path) -> None:
    path = tmp_path / "trajectories.jsonl"
    write_lines(path, [record(1), record(2)])
    with path.open("a") as file:
        file.write(json.dumps(record(3))[:50])
    assert [found["step"] for found in read_spread(path, 24)] == [1, 2]
