"""What a spec refuses to guess, and what training refuses to do."""

from pathlib import Path
from typing import Any

import pytest

from tests.models.toy import toy_spec
from tests.toy import ALPHABET, toy_checkpoint, toy_model
from tests.trainers.toy_runs import rl_config, sft_config
from unmask.configs.optimizer import OptimizerConfig
from unmask.trainers.learner import Learner
from unmask.trainers.rl import train_rl
from unmask.trainers.sft import train_sft

UNTRAINABLE = {
    "full attention": {"attention": "full", "family": "llada"},
    "shifted": {"is_shifted": True, "family": "fast_dllm_v2"},
    "both": {"attention": "full", "is_shifted": True, "block_size": None, "family": "dream"},
    "no blocks": {"block_size": None},
}


def test_an_unknown_mask_id_is_the_error() -> None:
    assert toy_spec(mask_id=0).require_mask_id() == 0
    with pytest.raises(ValueError, match="pass mask_id="):
        toy_spec(mask_id=None).require_mask_id()


def test_training_lays_text_out_in_the_models_blocks() -> None:
    assert toy_spec(block_size=8).require_trainable() == 8


@pytest.mark.parametrize("changes", UNTRAINABLE.values(), ids=UNTRAINABLE)
def test_conventions_that_training_does_not_know_are_refused(changes: dict[str, Any]) -> None:
    spec = toy_spec(**changes)
    with pytest.raises(ValueError, match=f"^training {spec.family} is not there yet: only block-c"):
        spec.require_trainable()
    with pytest.raises(ValueError, match="generates and exports"):
        Learner(toy_model(**changes), OptimizerConfig())


FULL = {"family": "llada", "attention": "full", "has_qk_norm": False}


@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_a_run_on_such_a_model_is_refused_with_a_sentence(stage: str, tmp_path: Path) -> None:
    train, make = {"sft": (train_sft, sft_config), "rl": (train_rl, rl_config)}[stage]
    config = make(tmp_path)  # writes data and a checkpoint that could be trained
    toy_checkpoint(tmp_path / "full", ALPHABET, **FULL)
    config = make(tmp_path, f"model.path={tmp_path / 'full'}", "model.block_size=4")
    with pytest.raises(ValueError, match=r"^training llada is not there yet"):
        train(config)  # type: ignore[arg-type]
