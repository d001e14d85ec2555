"""Runs of SFT and RL on two ranks are those of one process: metrics, responses and the saved model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.distributed.ranks import on_ranks
from tests.trainers.toy_methods import words_of
from tests.trainers.toy_runs import metrics, rl_config, sft_config
from unmask.distributed.world import ALONE, World
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft

BOUND = 1e-6
CONFIGS = {"sft": sft_config, "rl": rl_config}
TRAIN: dict[str, Any] = {"sft": train_sft, "rl": train_rl}
# Of several ranks alone.
OF_RANKS = {"sync_bytes", "sync_peak_bytes"}


def train(world: World, kind: str, place: Path, words: list[str], run: str) -> str:
    """Train and return the directory of the trained model."""
    config = CONFIGS[kind](place, *words, run=run)
    return str(TRAIN[kind](config, False, world))


def assert_same_run(found: Path, expected: Path) -> None:
    for mine, other in zip(metrics(found), metrics(expected), strict=True):
        assert mine.keys() - OF_RANKS == other.keys()
        for name, value in other.items():
            where = f"{name} of step {other['step']}"
            if name == "packed_tokens":  # smaller packs repeat more clean tokens
                assert value <= mine[name] <= 1.05 * value, where
            elif value is None or isinstance(value, int):
                assert mine[name] == value, where
            else:
                assert mine[name] == pytest.approx(value, rel=BOUND, abs=BOUND), where
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (found, expected))
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=BOUND, atol=BOUND)


def responses(run: Path) -> list[tuple[list[int], list[int], float]]:
    records = map(json.loads, (run / "trajectories.jsonl").read_text().splitlines())
    return [(r["canvas_ids"], r["step_map"], r["reward"]) for r in records]


EVALUATED = ["eval.problems=3", "eval.every=1"]
LORA = ["lora.rank=2", 'lora.targets=["all"]']
SFT = {"all weights": EVALUATED, "lora": LORA}
RL = {
    "group_std": [*EVALUATED, "minibatches=2"],
    "lora and reference": [*LORA, "loss.kl=0.1", "loss.kl_to=reference"],
    "loss of responses": [*words_of("espo"), "epochs=1", "minibatches=2"],
    "drafts": ["rollout.drafts=2", "minibatches=2"],
    "no group left": ["advantage.kind=value", "advantage.lr=1e-2", "filter.low=2", "filter.high=3"],
}


@pytest.mark.parametrize("case", SFT)
def test_sft_is_that_of_one_process(case: str, tmp_path: Path) -> None:
    assert_case("sft", SFT[case], tmp_path)


@pytest.mark.parametrize("case", RL)
def test_rl_is_that_of_one_process(case: str, tmp_path: Path) -> None:
    assert_case("rl", RL[case], tmp_path)
    assert responses(tmp_path / "ranks") == responses(tmp_path / "alone")


def assert_case(kind: str, words: list[str], place: Path) -> None:
    # With the default of 1e-8 a gradient of zero, up to rounding, becomes a step of either sign.
    words = [*words, "optimizer.eps=1e-3"]
    words += ["rollout.prompts=6", "rollout.responses=8"] if kind == "rl" else []
    train(ALONE, kind, place, words, "alone")
    found = on_ranks(train, kind, place, words, "ranks")
    assert found == [str(place / "ranks" / "model")] * 2
    assert_same_run(place / "ranks", place / "alone")
