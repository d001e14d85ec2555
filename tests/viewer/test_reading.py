"""Whatever is there is read: missing files, half a last line, steps that were written twice."""

import json
from pathlib import Path

import pytest

from tests.viewer.toy_run import record, write_lines, write_run
from unmask.runs.trajectories import total_reward
from unmask.viewer import reading
from unmask.viewer.reading import Record, read_run, read_spread, read_tail


def every(record: Record) -> bool:
    return True


def test_empty_directory_is_a_run(tmp_path: Path) -> None:
    files = read_run(tmp_path)
    assert (files.kind, files.step, files.num_steps, files.metrics) == ("run", 0, None, ())


@pytest.mark.parametrize("kind", ["rl", "sft", "eval"])
def test_kind_is_told_by_the_configuration(tmp_path: Path, kind: str) -> None:
    assert read_run(write_run(tmp_path, kind=kind)).kind == kind


def test_half_a_last_line_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    files = read_run(tmp_path)
    assert [row["step"] for row in files.metrics] == [1]
    assert files.num_unreadable == 0


def test_unreadable_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\xfe\n[1]\n{"loss": 1}\n\n{"step": 2}\n')
    files = read_run(tmp_path)
    assert [row["step"] for row in files.metrics] == [1, 2]
    assert files.num_unreadable == 3


def test_steps_written_again_replace_the_first_ones(tmp_path: Path) -> None:
    rows = [{"step": step, "loss": loss} for step, loss in [(1, 1), (2, 1), (3, 1), (2, 5)]]
    write_lines(tmp_path / "metrics.jsonl", rows)
    assert [row["loss"] for row in read_run(tmp_path).metrics] == [1, 5]


def test_broken_configuration_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "summary.json").write_text("[1]")
    files = read_run(tmp_path)
    assert not files.config and not files.samplings
    for name, text in (("summary", '{"samplings": {"a": {"n": 3}, "b": 4}}'), ("speed", "{")):
        (tmp_path / f"{name}.json").write_text(text)
    assert read_run(tmp_path).samplings == {"a": {"n": 3, "speed": {}}, "b": {"speed": {}}}


def test_tail_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trajectories.jsonl"
    write_lines(path, [record(step) for step in range(1, 21)])
    size = path.stat().st_size
    monkeypatch.setattr(reading, "TAIL_BYTES", size // 4)
    steps = [found["step"] for found in read_tail(path, every)]
    assert steps == [17, 18, 19, 20] or steps == [16, 17, 18, 19, 20]
    assert read_tail(path, lambda found: found["step"] == 20)[0]["step"] == 20
    assert read_tail(tmp_path / "none", every) == []


def test_spread_reaches_from_the_first_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "trajectories.jsonl"
    write_lines(path, [record(step) for step in range(1, 101)])
    steps = [found["step"] for found in read_spread(path, 10, every)]
    assert steps[0] == 1 and steps[-1] > 85
    assert len(steps) == len(set(steps)) == 10
    assert read_spread(tmp_path / "none", 10, every) == []


def test_spread_of_a_short_file_is_the_file(tmp_path: Path) -> None:
    path = tmp_path / "trajectories.jsonl"
    write_lines(path, [record(1), record(2)])
    with path.open("a") as file:
        file.write(json.dumps(record(3))[:50])
    assert [found["step"] for found in read_spread(path, 24, every)] == [1, 2]


def test_total_reward() -> None:
    assert total_reward(0.5, [1, 1]) == 0.5
    assert total_reward([0.5, 1.0], [1, 2]) == 1.5
    assert total_reward([0.5, 1.0, 4.0], [1, 1, 2]) == 4.75
