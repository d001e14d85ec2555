"""What a critic starts from."""

from pathlib import Path

import pytest
import torch

from tests.models.toy import toy_model as whole_toy_model
from tests.trainers.toy_runs import rl_config
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.trainers.critic_model import build_value_model


def test_it_starts_on_the_policys_backbone_in_its_number_format(tmp_path: Path) -> None:
    config = rl_config(tmp_path, "value.enabled=true", "model.gradient_checkpointing=true")
    policy = load_model(config.model.path, dtype=torch.bfloat16)
    critic = build_value_model(config, policy)
    assert critic.dtype == torch.bfloat16
    assert critic.backbone.gradient_checkpointing
    pairs = zip(policy.backbone.parameters(), critic.backbone.parameters(), strict=True)
    assert all(torch.equal(a, b) and a is not b for a, b in pairs)


def test_a_critic_that_cannot_judge_the_policy_is_refused(tmp_path: Path) -> None:
    def refused(said: str, *words: str) -> None:
        config = rl_config(tmp_path, "value.enabled=true", *words)
        with pytest.raises(ValueError, match=said):
            build_value_model(config, load_model(config.model.path))

    save_model(whole_toy_model(), tmp_path / "other")
    refused(r"value\.path = .*other: its vocab_size is 40", f"value.path={tmp_path / 'other'}")
    refused(r"has no value head .* value\.head = zero", "value.head=stored")
