"""What is trained, and what is refused because it would train nothing."""

from pathlib import Path

import pytest

from tests.trainers.toy_runs import rl_config
from unmask.checkpoints.checkpoint import load_model
from unmask.trainers.critic import Critic, SharedCritic
from unmask.trainers.rl_update import build_update


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["value.enabled=false"], type(None)),
        (["value.enabled=true"], Critic),
        (["value.enabled=true", "value.shares_backbone=true"], SharedCritic),
    ],
)
def test_the_config_says_what_judges(words: list[str], kind: type, tmp_path: Path) -> None:
    config = rl_config(tmp_path, *words)
    assert type(build_update(config, load_model(config.model.path)).critic) is kind


def test_a_critic_needs_denoising_steps(tmp_path: Path) -> None:
    config = rl_config(tmp_path, "value.enabled=true", "objective.method=coupled")
    with pytest.raises(ValueError, match=r"objective\.method = \"trace\".*'coupled'"):
        build_update(config, load_model(config.model.path))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("value.train_every=2", "train_every = 2 has no effect with shares_backbone"),
        ("value.minibatches=2", "minibatches = 2 has no effect with shares_backbone"),
        ("value.epochs=2", "epochs = 2 has no effect with shares_backbone"),
        ("value.lora.rank=2", "lora has no effect with shares_backbone"),
        ("value.path=there", "path = there has no effect with shares_backbone and a new head"),
    ],
)
def test_what_a_shared_backbone_leaves_no_room_for_is_refused(
    word: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"^value .*{said}"):
        rl_config(tmp_path, "value.shares_backbone=true", word)


def test_a_weight_without_a_shared_backbone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^value .*weight = 2\.0 has no effect on a critic"):
        rl_config(tmp_path, "value.weight=2")
