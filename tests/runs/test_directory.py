"""What a run leaves behind, and that it never writes over another run."""

import json
from pathlib import Path

import pytest

from unmask.configs.load import load_config
from unmask.configs.sft import SFTConfig
from unmask.runs.directory import RunDirectory, create_run, move_aside


def config(path: Path) -> SFTConfig:
    return load_config(SFTConfig, [], ["model.path=m", f"run.dir={path}", "run.threads=2"])[0]


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_config_and_environment_are_written(tmp_path: Path) -> None:
    run = create_run(config(tmp_path / "deep" / "run"))
    written = json.loads((run.path / "config.json").read_text())
    assert SFTConfig.model_validate(written) == config(run.path)
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["threads"] == 2
    assert {"argv", "start_time", "python", "platform", "cpu_count", "unmask"} <= set(environment)
    assert environment["packages"]["pydantic"]


def test_empty_directory_is_taken(tmp_path: Path) -> None:
    assert create_run(config(tmp_path)).path == tmp_path


def test_full_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ValueError, match=r"^run\.dir = .*not empty.*run\.dir=\.\.\."):
        create_run(config(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_file_in_the_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ValueError, match=r"^run\.dir = "):
        create_run(config(tmp_path / "a"))


def test_metrics_grow_by_a_line(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.log(step=1, loss=0.5, tokens=3)
    run.log(step=2, loss=float("nan"), **{"eval/accuracy": float("inf")})
    assert lines(tmp_path / "metrics.jsonl") == [
        {"step": 1, "loss": 0.5, "tokens": 3},
        {"step": 2, "loss": None, "eval/accuracy": None},
    ]


def test_records_grow_by_a_step(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.record([{"text": "a\nb"}, {"text": "ä"}])
    run.record([{"text": "c"}])
    run.record([])
    assert lines(tmp_path / "trajectories.jsonl") == [{"text": t} for t in ("a\nb", "ä", "c")]


def test_model_appears_whole(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with run.saving_model() as folder:
        (folder / "config.json").touch()
        assert not run.model.exists()
    assert (run.model / "config.json").exists()


def test_earlier_runs_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "quickstart"
    assert move_aside(path) is None
    path.mkdir()
    assert move_aside(path) is None
    for number in (1, 2):
        path.mkdir(exist_ok=True)
        (path / "summary.json").write_text(str(number))
        place = move_aside(path)
        assert place == tmp_path / f"quickstart.{number}"
        assert (place / "summary.json").read_text() == str(number)
        assert not path.exists()
