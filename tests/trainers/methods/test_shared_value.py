"""A value head on the policy's backbone: the values of a value model, in one pass with the policy."""

from pathlib import Path

import pytest
import torch

from tests.invariants.conventions import TOYS
from tests.toy import toy_model
from tests.trainers.toy_critics import critic_of, group_of, toy_value_model, views_of, written
from tests.trainers.toy_runs import rl_config, toy_trajectories
from unmask.models.value_model import ActorCritic
from unmask.trainers.learner import Learner
from unmask.trainers.methods.shared_value import estimate
from unmask.trainers.rl_update import build_update


@pytest.mark.parametrize("name", TOYS)
def test_its_values_are_those_of_a_value_model_of_the_same_weights(
    name: str, tmp_path: Path
) -> None:
    model = toy_value_model(torch.float64, **TOYS[name])
    policy = toy_model(2, torch.float64, **TOYS[name])
    both = ActorCritic(policy)
    both.value_head.load_state_dict(model.value_head.state_dict())
    config = rl_config(tmp_path, "advantage.kind=shared_value")
    learner = Learner(both, config.optimizer)
    trajectories = written(model.spec.is_full)
    views, groups = views_of(trajectories, model.spec.is_full), group_of(trajectories)
    found = estimate(learner, groups, views, config)
    wanted = critic_of(model, tmp_path).estimate(groups, views)
    torch.testing.assert_close(found.values, wanted.values, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.returns, wanted.returns, rtol=0, atol=1e-12)
    assert found.metrics == pytest.approx(wanted.metrics)
    # The policy's log-probabilities come from the same pass.
    for own, old in zip(found.views, Learner(policy, config.optimizer).score(views), strict=True):
        torch.testing.assert_close(own.old_logprobs, old, rtol=0, atol=1e-12)


def test_a_second_head_learns_what_its_trajectories_are_worth(tmp_path: Path) -> None:
    words = ["advantage.kind=shared_value", "advantage.lr=1e-2"]
    config = rl_config(tmp_path, *words, "advantage.weight=5", "optimizer.lr=1e-3")
    update = build_update(config, toy_model())
    trajectories = toy_trajectories(toy_model())
    groups, views = group_of(trajectories), views_of(trajectories)
    lines = [update.step(groups, views, step, step) for step in range(1, 21)]
    assert lines[-1]["value_explained_variance"] > 0.5 > lines[0]["value_explained_variance"]
    assert lines[-1]["value_loss"] < 0.5 * lines[0]["value_loss"]
    assert {"value_mean", "value_clipped", "advantage_variance", "entropy"} <= lines[0].keys()
