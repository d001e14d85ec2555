"""RL on samplers that overwrite tokens or mask them again: LLaDA2.1's edits, and remasking."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.test_every_convention_trains import checkpoint
from tests.invariants.test_law_6_resume import interrupt, left_behind, short_rl
from tests.trainers.toy_runs import metrics, rl_config
from unmask.trainers.rl import train_rl

# LLaDA2.1's sampler; the toy is unsure, so its thresholds are lower.
LLADA2_1 = [
    "sampling.preset=llada2_1",
    "sampling.temperature=1",
    "sampling.block_size=4",
    "sampling.threshold=0.12",
    "sampling.edit_threshold=0.08",
    "sampling.max_edit_steps=3",
]


def revisions(run: Path) -> list[list[dict[str, Any]]]:
    """Return the revisions of every recorded trajectory."""
    lines = (run / "trajectories.jsonl").read_text().splitlines()
    return [json.loads(line).get("revisions", []) for line in lines]


@pytest.mark.parametrize(
    "words",
    [
        ["loss.kl=0"],
        ["minibatches=2", "epochs=2", "loss.kl=0.01"],
        ["minibatches=2", "loss.kl=0", "views.kind=steps", "views.count=3"],
        ["loss.kl=0", "views.kind=coupled"],
        ["minibatches=2", "loss.kl=0", "views.train_block=8"],
    ],
    ids=["one update", "four updates", "some steps", "masked anew", "larger blocks"],
)
def test_llada2_1_is_trained_on_its_own_edits(words: list[str], tmp_path: Path) -> None:
    """The learner scores every write as the engine did, until the first update changes the weights."""
    path = checkpoint(tmp_path / "llada2", "llada2")
    settings = ["steps=3", f"model.path={path}", "model.mask_id=1", "optimizer.lr=1e-3", *LLADA2_1]
    train_rl(rl_config(tmp_path, *settings, *words))
    lines = [line for line in metrics(tmp_path / "run") if "loss" in line]
    assert lines and all(line["gradient_norm"] > 0 for line in lines)
    if "views.kind=coupled" not in words and "views.train_block=8" not in words:
        assert all(line["logprob_gap_max"] < 1e-5 for line in lines)
    found = revisions(tmp_path / "run")
    assert sum(map(bool, found)) > len(found) / 3
    assert {one["kind"] for of_one in found for one in of_one} == {"write"}


@pytest.mark.parametrize("family", ["sdar", "llada", "dream"])
def test_a_sampler_that_masks_again_is_trained(family: str, tmp_path: Path) -> None:
    """Block-causal, full, and full and shifted."""
    path = checkpoint(tmp_path / family, family)
    settings = ["steps=3", f"model.path={path}", "model.mask_id=1", "optimizer.lr=1e-3"]
    words = ["sampling.remask_threshold=0.05", "sampling.block_size=4", "minibatches=2"]
    train_rl(rl_config(tmp_path, *settings, *words, "loss.kl=0"))
    lines = [line for line in metrics(tmp_path / "run") if "loss" in line]
    assert lines and all(line["logprob_gap_max"] < 1e-5 for line in lines)
    kinds = {one["kind"] for of_one in revisions(tmp_path / "run") for one in of_one}
    assert kinds == {"write", "remask"}


@pytest.mark.parametrize(
    ("kind", "likelihood"), [("value", "revealed"), ("value", "move"), ("shared_value", "move")]
)
def test_a_value_model_is_trained_on_a_sampler_that_revises(
    kind: str, likelihood: str, tmp_path: Path
) -> None:
    path = checkpoint(tmp_path / "sdar", "sdar")
    settings = ["steps=2", f"model.path={path}", "model.mask_id=1", "optimizer.lr=1e-3"]
    words = ["sampling.remask_threshold=0.05", "sampling.block_size=4", "minibatches=2"]
    words += [f"advantage.kind={kind}", "advantage.lr=1e-2", f"loss.likelihood={likelihood}"]
    train_rl(rl_config(tmp_path, *settings, *words))
    lines = [line for line in metrics(tmp_path / "run") if "loss" in line]
    assert lines and all(line["value_loss"] > 0 for line in lines)
    assert "remask" in {one["kind"] for of_one in revisions(tmp_path / "run") for one in of_one}


def test_a_run_that_is_stopped_in_a_step_is_the_run_that_is_not(tmp_path: Path) -> None:
    words = ["sampling.edit_threshold=0.08", "sampling.remask_threshold=0.05", "minibatches=2"]
    interrupt(short_rl, tmp_path, "parts", "raise:20", *words)
    whole = left_behind(short_rl(tmp_path, "whole", *words))
    assert left_behind(short_rl(tmp_path, "parts", *words)) == whole
    found = revisions(tmp_path / "whole")
    assert {one["kind"] for of_one in found for one in of_one} == {"write", "remask"}
