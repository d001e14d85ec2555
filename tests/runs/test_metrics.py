"""Metrics are written by rising steps, are removed from a resumed run, and are all documented."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.source import ROOT
from tests.runs.past_runs import write_lines
from tests.trainers.toy_runs import rl_config, sft_config
from unmask.configs.load import load_config
from unmask.configs.sft import SFTConfig
from unmask.runs.directory import RunDirectory
from unmask.runs.metrics import open_metrics
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft


def config(path: Path, *words: str) -> SFTConfig:
    return load_config(SFTConfig, [], ["model.path=m", f"run.dir={path}", *words])[0]


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_lines_are_written_and_steps_rise(tmp_path: Path) -> None:
    with open_metrics(RunDirectory(tmp_path), config(tmp_path)) as metrics:
        metrics.log(step=1, loss=0.5)
        metrics.log(step=3, loss=float("nan"))
        with pytest.raises(AssertionError, match="step 3 after step 3"):
            metrics.log(step=3, loss=0.1)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 0.5}, {"step": 3, "loss": None}]


def test_steps_continue_after_the_last_step_of_the_file(tmp_path: Path) -> None:
    write_lines(tmp_path / "metrics.jsonl", [{"step": 4}])
    metrics = open_metrics(RunDirectory(tmp_path), config(tmp_path))
    with pytest.raises(AssertionError):
        metrics.log(step=4)
    metrics.log(step=5)
    assert steps(tmp_path / "metrics.jsonl") == [4, 5]


def test_cut_back_removes_lines_after_a_step_and_unfinished_lines(tmp_path: Path) -> None:
    write_lines(tmp_path / "metrics.jsonl", [{"step": s} for s in (1, 2, 3, 4)])
    write_lines(
        tmp_path / "trajectories.jsonl", [{"step": s, "text": "ä"} for s in (1, 1, 2, 2, 3)]
    )
    with (tmp_path / "trajectories.jsonl").open("a") as file:
        file.write('{"step": 3, "te')
    metrics = open_metrics(RunDirectory(tmp_path), config(tmp_path))
    metrics.cut_back(4)
    assert steps(tmp_path / "metrics.jsonl") == [1, 2, 3, 4]
    assert steps(tmp_path / "trajectories.jsonl") == [1, 1, 2, 2, 3]
    metrics.cut_back(2)
    assert steps(tmp_path / "metrics.jsonl") == [1, 2]
    assert steps(tmp_path / "trajectories.jsonl") == [1, 1, 2, 2]
    metrics.log(step=3)
    metrics.cut_back(0)
    metrics.log(step=1)
    assert steps(tmp_path / "metrics.jsonl") == [1]
    assert (tmp_path / "trajectories.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "line 1: the file ends, expected step 1"),
        ([1, 2], "line 3: the file ends, expected step 3"),
        ([2, 3], "line 1: found step 2, expected step 1"),
        ([1, 3, 4], "line 2: found step 3, expected step 2"),
        ([1, 2, 2, 3], "line 3: found step 2, expected step 3"),
        ([1, 3, 2], "line 2: found step 3, expected step 2"),
    ],
)
def test_every_step_before_the_cut_must_be_there(
    found: list[int], message: str, tmp_path: Path
) -> None:
    write_lines(tmp_path / "metrics.jsonl", [{"step": step} for step in found])
    metrics = open_metrics(RunDirectory(tmp_path), config(tmp_path))
    with pytest.raises(ValueError, match=rf"metrics\.jsonl, {message}"):
        metrics.cut_back(3)
    assert steps(tmp_path / "metrics.jsonl") == found


def test_cut_back_needs_no_files_and_no_room(tmp_path: Path) -> None:
    metrics = open_metrics(RunDirectory(tmp_path), config(tmp_path))
    metrics.cut_back(0)
    assert list(tmp_path.iterdir()) == []
    write_lines(tmp_path / "metrics.jsonl", [{"step": 1}, {"step": 2}])
    before = (tmp_path / "metrics.jsonl").stat().st_ino
    metrics.cut_back(1)
    assert (tmp_path / "metrics.jsonl").stat().st_ino == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def documented() -> re.Pattern[str]:
    """Return a pattern of the names in docs/metrics.md; `<part>` stands for any word."""
    rows = re.findall(
        r"^\| `([\w<>]+)` \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE
    )
    assert len(rows) == len(set(rows))
    return re.compile("|".join(re.sub(r"<\w+>", r"\\w+", row) for row in rows))


def test_every_name_that_is_logged_is_documented(tmp_path: Path) -> None:
    words = ("steps=1", "eval.problems=2", "data.validation=0.3")
    train_sft(sft_config(tmp_path, *words, run="sft"))
    train_rl(rl_config(tmp_path, "steps=1", "eval.problems=2", "minibatches=2", run="rl"))
    names: set[str] = set()
    for kind in ("sft", "rl"):
        lines: list[dict[str, Any]] = [
            json.loads(line)
            for line in (tmp_path / kind / "metrics.jsonl").read_text().splitlines()
        ]
        names |= {name for line in lines for name in line}
    assert {"loss", "nll", "reward", "eval_accuracy", "rollout_wall_s"} <= names
    known = documented()
    missing = sorted(name for name in names if not known.fullmatch(name))
    assert not missing, f"add to docs/metrics.md: {missing}"
