"""Advantages of a response: the views' own, and no model but the policy."""

from pathlib import Path

from tests.toy import toy_model
from tests.trainers.toy_critics import group_of, views_of
from tests.trainers.toy_runs import rl_config, toy_trajectories
from unmask.trainers.methods.group import build


def test_the_policy_is_trained_at_the_rate_of_its_schedule(tmp_path: Path) -> None:
    config = rl_config(tmp_path, "steps=10", "optimizer.lr=0.1", "optimizer.warmup_steps=4")
    model = toy_model()
    update = build(config, model)
    assert update.value is None and update.learner.model is model
    trajectories = toy_trajectories(model)
    metrics = update.step(group_of(trajectories), views_of(trajectories), 2, 0)
    assert metrics["learning_rate"] == 0.05
    assert metrics["updates"] == update.learner.num_updates == 1
