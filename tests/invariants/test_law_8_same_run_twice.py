"""Law 8: a run twice with one seed is the same run, to the last bit of its weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.toy_runs import metrics, rl_config, sft_config
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft

Run = Callable[[Path, str, int], Path]


def short_sft(place: Path, name: str, seed: int) -> Path:
    """Train for four steps with two noisy views, and measure twice."""
    words = ["steps=4", "views.count=2", "eval.problems=4", "eval.every=2", f"run.seed={seed}"]
    return train_sft(sft_config(place, *words, run=name)).parent


def short_rl(place: Path, name: str, seed: int) -> Path:
    """Train for three steps of two minibatches over merged views, and measure once."""
    words = ["steps=3", "minibatches=2", "views.shrink=2", "eval.problems=4"]
    return train_rl(rl_config(place, *words, f"run.seed={seed}", run=name)).parent


def left_behind(run: Path) -> tuple[list[dict[str, Any]], list[Any], bytes]:
    """Return a run's numbers, its trajectories and the bytes of its weights."""
    file = run / "trajectories.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    weights = (run / "model" / "model.safetensors").read_bytes()
    return metrics(run), [json.loads(line) for line in lines], weights


@pytest.mark.parametrize("train", [short_sft, short_rl])
def test_a_run_twice_with_one_seed_is_itself(train: Run, tmp_path: Path) -> None:
    first, again, other = (
        left_behind(train(tmp_path, name, seed))
        for name, seed in [("first", 4), ("again", 4), ("other", 5)]
    )
    assert first[0] == again[0] != other[0]
    assert first[1] == again[1]
    assert first[2] == again[2] != other[2]
