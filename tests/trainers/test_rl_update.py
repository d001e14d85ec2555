"""The update of an RL step: which models are trained, by `advantage.kind`."""

from pathlib import Path

import pytest

from tests.trainers.toy_runs import rl_config
from unmask.checkpoints.checkpoint import load_model
from unmask.models.value_model import ActorCritic, ValueModel
from unmask.trainers.rl_update import build_update


@pytest.mark.parametrize(
    ("kind", "model", "has_learner"),
    [
        ("group_std", type(None), False),
        ("none", type(None), False),
        ("value", ValueModel, True),
        ("shared_value", ActorCritic, False),
    ],
)
def test_the_kind_of_advantage_chooses_what_is_trained(
    kind: str, model: type, has_learner: bool, tmp_path: Path
) -> None:
    config = rl_config(tmp_path, f"advantage.kind={kind}")
    found = build_update(config, load_model(config.model.path)).value
    assert isinstance(found.model if found else None, model)
    assert bool(found and found.learner) == has_learner
