"""A value model: values read just before a reveal, updates of its own."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.invariants.conventions import TOYS
from tests.models.toy import toy_model as whole_toy_model
from tests.toy import toy_model
from tests.trainers.toy_critics import (
    critic_of,
    dense_values,
    gradients,
    group_of,
    toy_value_model,
    views_of,
    written,
)
from tests.trainers.toy_runs import rl_config, toy_trajectories
from unmask.checkpoints.checkpoint import load_model, save_model
from unmask.diffusion.layout import pack_views
from unmask.diffusion.target_table import TargetTable
from unmask.engine.scoring import score_pack
from unmask.models.conventions import conventions_of
from unmask.objectives.value import clipped_value_loss
from unmask.trainers.losses import build_value_objective
from unmask.trainers.methods.value import Critic, build_value_model


@pytest.mark.parametrize(("shrink", "budget"), [(1, 48), (2, 10_000)])
@pytest.mark.parametrize("name", TOYS)
def test_values_and_their_gradients_are_those_of_view_by_view(
    name: str, shrink: int, budget: int, tmp_path: Path
) -> None:
    model = toy_value_model(torch.float64, **TOYS[name])
    trajectories = written(model.spec.is_full)
    views = views_of(trajectories, model.spec.is_full, shrink)
    critic = critic_of(model, tmp_path, f"optimizer.token_budget={budget}")
    targets = critic.estimate(group_of(trajectories), views)
    # Old values that are not the new ones: some have moved too far.
    values_of, returns = ([c[name] for c in targets.columns()] for name in ("values", "returns"))
    old = [v + 0.2 * torch.randn(v.shape, dtype=torch.float64) for v in values_of]

    expected_loss = torch.zeros((), dtype=torch.float64)
    for t, own in enumerate(views):
        for v in range(len(own.target)):
            positions = own.target[v].nonzero()[:, 0]
            values = dense_values(model, own, v)[positions]
            estimated = values_of[t][v, positions]
            torch.testing.assert_close(estimated, values.detach(), rtol=0, atol=1e-10)
            loss = clipped_value_loss(values, old[t][v, positions], returns[t][v, positions], 0.2)
            expected_loss = expected_loss + loss.sum() / 7
    expected = gradients(model, expected_loss)

    objective = build_value_objective(0.2)
    tables = {"values": TargetTable(old), "returns": TargetTable(returns)}
    conventions = conventions_of(toy_model(**TOYS[name]))
    packs = pack_views(views, conventions, budget)
    assert (len(packs) == 1) == (budget == 10_000)
    found_loss = torch.zeros((), dtype=torch.float64)
    for pack in packs:
        output = objective(score_pack(model, pack), pack, tables)
        found_loss = found_loss + (output.loss * pack.weights).sum() / 7
    found = gradients(model, found_loss)
    assert found_loss.item() == pytest.approx(expected_loss.item(), abs=1e-10)
    assert found.keys() == expected.keys() >= {"value_head.weight"}
    for parameter, gradient in expected.items():
        torch.testing.assert_close(found[parameter], gradient, rtol=0, atol=1e-10)


@pytest.mark.parametrize("is_full", [False, True])
def test_an_update_is_a_step_down_that_gradient(is_full: bool, tmp_path: Path) -> None:
    """With so large an epsilon AdamW's first step is minus the gradient; minibatches cut it up."""
    changes: list[Tensor] = []
    for budget in (10_000, 48):
        model = toy_value_model(torch.float64, **TOYS["full"] if is_full else {})
        before = model.value_head.weight.detach().clone()
        words = ["optimizer.eps=1e7", "advantage.lr=1e7", "optimizer.clip_norm=none"]
        critic = critic_of(model, tmp_path, *words, f"optimizer.token_budget={budget}")
        trajectories = written(is_full)
        views = views_of(trajectories, is_full)
        targets = critic.estimate(group_of(trajectories), views)
        critic.update(targets, step=1, seed=0)
        changes.append(before - model.value_head.weight.detach())
        returns = [columns["returns"] for columns in targets.columns()]
    count = sum(int(own.target.sum()) for own in views)
    hidden = torch.zeros_like(changes[0])
    model = toy_value_model(torch.float64, **TOYS["full"] if is_full else {})
    for t, own in enumerate(views):
        for v in range(len(own.target)):
            positions = own.target[v].nonzero()[:, 0]
            error = dense_values(model, own, v)[positions] - returns[t][v, positions]
            loss = error.square().sum() / 2 / count
            hidden += torch.autograd.grad(loss, model.value_head.weight)[0]
    for change in changes:
        torch.testing.assert_close(change, hidden, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    "words", [[], ["advantage.minibatches=2"], ["advantage.epochs=2"], ["loss.reduction=view"]]
)
def test_a_critic_learns_what_its_trajectories_are_worth(words: list[str], tmp_path: Path) -> None:
    trajectories = toy_trajectories(toy_model())
    views = views_of(trajectories)
    critic = critic_of(toy_value_model(), tmp_path, *words)
    lines = []
    for step in range(1, 16):
        targets = critic.estimate(group_of(trajectories), views)
        lines.append(critic.update(targets, step, seed=step))
    assert lines[-1]["value_explained_variance"] > 0.5 > lines[0]["value_explained_variance"]
    assert lines[-1]["value_loss"] < 0.5 * lines[0]["value_loss"]
    last = lines[-1]
    assert last["advantage_variance"] < 0.5 * last["advantage_variance_without_critic"]
    assert lines[0]["value_learning_rate"] == 1e-2
    assert {"value_gradient_norm", "value_mean", "value_clipped"} <= lines[0].keys()


def test_values_that_moved_far_enough_are_clipped(tmp_path: Path) -> None:
    trajectories = toy_trajectories(toy_model())
    critic = critic_of(toy_value_model(), tmp_path, "advantage.epochs=4", "advantage.clip=0.01")
    targets = critic.estimate(group_of(trajectories), views_of(trajectories))
    assert critic.update(targets, 1, seed=0)["value_clipped"] > 0


def test_its_cadence_is_its_own(tmp_path: Path) -> None:
    trajectories = written(False)
    critic = critic_of(
        toy_value_model(), tmp_path, "advantage.train_every=2", "advantage.minibatches=3"
    )
    targets = critic.estimate(group_of(trajectories), views_of(trajectories))
    assert "value_loss" not in critic.update(targets, 1, seed=0)
    assert critic.learner.num_updates == 0
    metrics = critic.update(targets, 2, seed=0)
    assert critic.learner.num_updates == 3
    assert metrics.keys() >= {"value_loss", "value_explained_variance"}


def test_without_trajectories_nothing_happens(tmp_path: Path) -> None:
    critic = critic_of(toy_value_model(), tmp_path)
    targets = critic.estimate([], [])
    assert (targets.views, critic.update(targets, 1, seed=0)) == ([], {})
    assert critic.learner.num_updates == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_critic_goes_on_to_the_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    trajectories = written(False)
    views, groups = views_of(trajectories), group_of(trajectories)

    def learn(critic: Critic, *steps: int) -> None:
        for step in steps:
            critic.update(critic.estimate(groups, views), step, seed=step)

    whole, first = (critic_of(toy_value_model(dtype), tmp_path) for _ in range(2))
    learn(whole, 1, 2, 3)
    learn(first, 1)
    model = toy_value_model(dtype)
    model.load_state_dict(first.model.state_dict())
    second = critic_of(model, tmp_path)
    second.learner.restore(first.learner.state(), first.learner.num_updates)
    learn(second, 2, 3)
    assert second.learner.num_updates == 3
    pairs = zip(whole.model.parameters(), second.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_process_rewards_reach_the_policy_token_by_token(tmp_path: Path) -> None:
    trajectories = toy_trajectories(toy_model())
    rewards = [tuple(float(i % 2) for i in range(t.num_response)) for t in trajectories]
    critic = critic_of(toy_value_model(), tmp_path)
    views = critic.estimate(group_of(trajectories, rewards), views_of(trajectories)).views
    assert all(len(own.advantages[own.target].unique()) > 1 for own in views)


def test_it_starts_on_the_policys_backbone_in_its_number_format(tmp_path: Path) -> None:
    config = rl_config(tmp_path, "advantage.kind=value", "model.gradient_checkpointing=true")
    policy = load_model(config.model.path, dtype=torch.bfloat16)
    critic = build_value_model(config, policy)
    assert critic.dtype == torch.bfloat16
    assert critic.backbone.gradient_checkpointing
    pairs = zip(policy.backbone.parameters(), critic.backbone.parameters(), strict=True)
    assert all(torch.equal(a, b) and a is not b for a, b in pairs)


def test_a_value_model_of_other_tokens_or_without_a_head_is_refused(tmp_path: Path) -> None:
    def refused(said: str, *words: str) -> None:
        config = rl_config(tmp_path, "advantage.kind=value", *words)
        with pytest.raises(ValueError, match=said):
            build_value_model(config, load_model(config.model.path))

    save_model(whole_toy_model(), tmp_path / "other")
    refused(
        r"advantage\.path = .*other: its vocab_size is 40", f"advantage.path={tmp_path / 'other'}"
    )
    refused(r"has no value head .* advantage\.head = zero", "advantage.head=stored")
