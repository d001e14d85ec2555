"""SFT and RL from config to checkpoint, on a toy of every attention pattern, shifted or not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.toy import FAMILY_CHANGES
from tests.toy import toy_checkpoint
from tests.trainers.toy_runs import metrics, rl_config, sft_config
from unmask import load_model
from unmask.checkpoints.checkpoint import save_model
from unmask.engine.llm import LLM
from unmask.sampling_params import SamplingParams
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft

GREEDY = SamplingParams(temperature=0, max_tokens=8)
# Besides SDAR, which the tests of the trainers run on.
FAMILIES = ("llada", "llada_moe", "dream", "fast_dllm_v2")


def checkpoint(place: Path, family: str) -> Path:
    """Write a toy of a family that is unsure of everything, so that the answers to a prompt differ."""
    changes: dict[str, Any] = {**FAMILY_CHANGES[family], "family": family}
    model = load_model(toy_checkpoint(place, **changes), mask_id=1)
    with torch.no_grad():
        model.head.projection.weight.mul_(0.2)
    save_model(model, place)
    return place


@pytest.mark.parametrize(
    "words",
    [
        ["loss.kl=0"],
        ["minibatches=2", "loss.kl=0.01"],
        ["minibatches=2", "views.shrink=3", "views.post_num=1"],
    ],
    ids=["one update", "two updates", "merged views"],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_reinforcement_learning(family: str, words: list[str], tmp_path: Path) -> None:
    path = checkpoint(tmp_path / family, family)
    settings = ["steps=3", f"model.path={path}", "model.mask_id=1", "sampling.block_size=4"]
    model = train_rl(rl_config(tmp_path, *settings, "optimizer.lr=1e-3", *words))
    lines = metrics(tmp_path / "run")
    assert len(lines) == 3
    trained = [line for line in lines if "loss" in line]
    assert trained
    if "views.shrink=3" not in words:
        assert all(line["logprob_gap_max"] < 1e-5 for line in trained)
    assert load_model(model, mask_id=1).spec.family == family


@pytest.mark.parametrize("family", FAMILIES)
def test_supervised(family: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / family, family)
    settings = [f"model.path={path}", "model.mask_id=1", "optimizer.lr=1e-2", "steps=60"]
    is_full = load_model(path, mask_id=1).spec.is_full
    canvas = ["data.canvas_tokens=8"] if is_full else []
    words = [*settings, "views.count=2", "data.batch_size=6", *canvas]
    model = train_sft(sft_config(tmp_path, *words))
    lines = metrics(tmp_path / "run")
    assert lines[-1]["nll"] < 0.5 < 2 < lines[0]["nll"]
    answer = LLM(load_model(model, mask_id=1)).generate(["1+2="], GREEDY)[0].text
    assert answer == "7;77"


@pytest.mark.parametrize(
    ("family", "word", "said"),
    [
        (
            "fast_dllm_v2",
            "data.canvas_tokens=8",
            r"data.canvas_tokens = 8 is for models with full",
        ),
        (
            "sdar",
            "data.canvas_tokens=longest",
            r"data.canvas_tokens = longest is for models with full",
        ),
        ("llada", "data.canvas_tokens=125", "has 131 tokens, but the model has 128 positions"),
        ("dream", "optimizer.token_budget=16", r"optimizer\.token_budget = 16 .* takes 17"),
    ],
)
def test_what_cannot_be_is_refused(family: str, word: str, said: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / family, family)
    long = ["data.canvas_tokens=11"] if family == "dream" else []
    with pytest.raises(ValueError, match=said):
        train_sft(sft_config(tmp_path, f"model.path={path}", "model.mask_id=1", *long, word))
    assert not (tmp_path / "run").exists()


def test_a_shifted_model_needs_a_prompt(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "dream", "dream")
    config = sft_config(tmp_path, f"model.path={path}")
    record = {"prompt": "", "response": "7<eos>"}
    (tmp_path / "demonstrations.json").write_text(json.dumps([record]))
    with pytest.raises(
        ValueError, match="empty prompt: dream predicts a token from the one before"
    ):
        train_sft(config)
