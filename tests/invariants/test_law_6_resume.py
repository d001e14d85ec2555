"""Law 6: save, kill, resume is the uninterrupted run, to the bit, on CPU."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.breaking import REWARD, VARIABLE, start_counting
from tests.trainers.toy_runs import metrics, rl_config, sft_config
from unmask.runs.signals import Stopped
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft

STEPS = 6
SHARED = ["save_every=2", "eval.problems=4", "eval.every=2", REWARD]
Run = Callable[..., Path]


def short_rl(place: Path, name: str, *words: str, steps: int = STEPS) -> Path:
    """Train by RL in two minibatches with a reference policy; 12 rewards a step, 4 an evaluation."""
    settings = [*SHARED, f"steps={steps}", "minibatches=2", "loss.kl=0.1", *words]
    return train_rl(rl_config(place, *settings, run=name), resume=True).parent


def short_sft(place: Path, name: str, *words: str, steps: int = STEPS) -> Path:
    """Train by SFT with fresh noise every step; 4 rewards an evaluation."""
    settings = [*SHARED, f"steps={steps}", "views.count=2", *words]
    return train_sft(sft_config(place, *settings, run=name), resume=True).parent


def interrupt(train: Run, place: Path, name: str, how: str, *words: str) -> str:
    """Break a run by its reward, and return its error output."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, how)
        start_counting()
        with pytest.raises((ValueError, Stopped)) as it:
            train(place, name, *words)
    return "\n".join([str(it.value), *getattr(it.value, "__notes__", ())])


def left_behind(run: Path) -> dict[str, Any]:
    """Return everything of a finished run that must not depend on how often it was interrupted."""
    last = max((run / "checkpoints").iterdir())
    trajectories = run / "trajectories.jsonl"
    return {
        "metrics": metrics(run),
        "trajectories": trajectories.read_bytes() if trajectories.exists() else b"",
        "model": (run / "model" / "model.safetensors").read_bytes(),
        "best": (run / "best" / "model.safetensors").read_bytes(),
        "optimizer": (last / "optimizer.safetensors").read_bytes(),
        "state": json.loads((last / "state.json").read_text()),
        "last": last.name,
    }


@pytest.mark.parametrize(
    ("dtype", "hows"),
    [
        ("float32", ["raise:7", "nan:30", "raise:50"]),  # the first, third and fourth step
        ("bfloat16", ["SIGINT:20", "raise:39"]),
    ],
)
def test_an_rl_run_that_is_preempted_is_the_run_that_is_not(
    dtype: str, hows: list[str], tmp_path: Path
) -> None:
    word = f"model.dtype={dtype}"
    for how in hows:
        interrupt(short_rl, tmp_path, "parts", how, word)
    whole = left_behind(short_rl(tmp_path, "whole", word))
    assert left_behind(short_rl(tmp_path, "parts", word)) == whole
    assert [line["step"] for line in whole["metrics"]] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("word", ["model.dtype=bfloat16", "optimizer.kind=muon"])
def test_an_sft_run_that_is_preempted_is_the_run_that_is_not(word: str, tmp_path: Path) -> None:
    for how in ("raise:2", "SIGINT:6", "nan:2"):  # always in an evaluation, after the update
        interrupt(short_sft, tmp_path, "parts", how, word)
    whole = left_behind(short_sft(tmp_path, "whole", word))
    assert left_behind(short_sft(tmp_path, "parts", word)) == whole


def test_the_error_names_the_kept_step(tmp_path: Path) -> None:
    assert "is kept" not in interrupt(short_rl, tmp_path, "run", "raise:1")
    message = interrupt(short_rl, tmp_path, "run", "raise:20")
    assert message.startswith("task.reward = 'tests.trainers.breaking:reward' raised KeyError(")
    assert message.endswith("the state of step 1 is kept: go on by --resume")
    message = interrupt(short_rl, tmp_path, "run", "SIGTERM:30")
    assert message == "stopped by SIGTERM; the state of step 3 is kept"


@pytest.mark.parametrize("train", [short_rl, short_sft])
def test_a_finished_run_goes_on_when_it_is_given_more_steps(train: Run, tmp_path: Path) -> None:
    train(tmp_path, "parts", steps=STEPS - 2)
    whole = left_behind(train(tmp_path, "whole"))
    assert left_behind(train(tmp_path, "parts")) == whole
    assert left_behind(train(tmp_path, "parts")) == whole  # nothing is left to do
