"""The critic: values read where a reveal is about to happen, updates of its own."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.invariants.conventions import TOYS
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
from unmask.diffusion.layout import pack_views
from unmask.models.conventions import conventions_of
from unmask.models.tiled_attention import plan_documents
from unmask.models.value_model import ActorCritic
from unmask.objectives.value import clipped_value_loss
from unmask.trainers.critic import Critic, SharedCritic
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_value_terms
from unmask.trainers.rl_update import build_update
from unmask.trainers.scorer import RowTable


@pytest.mark.parametrize("budget", [10_000, 48])
@pytest.mark.parametrize("shrink", [1, 2])
@pytest.mark.parametrize("name", TOYS)
def test_values_and_their_gradients_are_those_of_view_by_view(
    name: str, shrink: int, budget: int, tmp_path: Path
) -> None:
    model = toy_value_model(torch.float64, **TOYS[name])
    trajectories = written(model.spec.is_full)
    views = views_of(trajectories, model.spec.is_full, shrink)
    critic = critic_of(model, tmp_path, f"optimizer.token_budget={budget}")
    judgement = critic.judge(group_of(trajectories), views)
    # Old values that are not the new ones: some have moved too far.
    noise = torch.randn(judgement.values.shape, dtype=torch.float64) * 0.2
    old = judgement.values + noise

    expected_loss = torch.zeros((), dtype=torch.float64)
    for t, looks in enumerate(views):
        for v in range(len(looks.target)):
            slots = looks.target[v].nonzero()[:, 0]
            values = dense_values(model, looks, v)[slots]
            told = judgement.values[t, slots]
            torch.testing.assert_close(told, values.detach(), rtol=0, atol=1e-10)
            loss = clipped_value_loss(values, old[t, slots], judgement.returns[t, slots], 0.2)
            expected_loss = expected_loss + loss.sum() / 7
    expected = gradients(model, expected_loss)

    terms = build_value_terms(0.2)
    shapes = [looks.target.shape for looks in views]
    known = {
        name: RowTable(
            [row[: shape[1]].expand(shape) for row, shape in zip(rows, shapes, strict=True)]
        )
        for name, rows in (("values", old), ("returns", judgement.returns))
    }
    conventions = conventions_of(toy_model(**TOYS[name]))
    packs = pack_views(views, conventions, budget)
    assert (len(packs) == 1) == (budget == 10_000)
    found_loss = torch.zeros((), dtype=torch.float64)
    for pack in packs:
        values = model(pack.tokens, pack.positions, plan_documents(pack.structure), pack.rows)
        found_loss = found_loss + (terms(values, pack, known).loss * pack.weights).sum() / 7
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
        words = ["optimizer.eps=1e7", "value.lr=1e7", "optimizer.clip_norm=none"]
        critic = critic_of(model, tmp_path, *words, f"optimizer.token_budget={budget}")
        trajectories = written(is_full)
        views = views_of(trajectories, is_full)
        judgement = critic.judge(group_of(trajectories), views)
        critic.update(judgement, step=1, seed=0)
        changes.append(before - model.value_head.weight.detach())
    count = sum(int(looks.target.sum()) for looks in views)
    hidden = torch.zeros_like(changes[0])
    model = toy_value_model(torch.float64, **TOYS["full"] if is_full else {})
    for t, looks in enumerate(views):
        for v in range(len(looks.target)):
            slots = looks.target[v].nonzero()[:, 0]
            error = dense_values(model, looks, v)[slots] - judgement.returns[t, slots]
            loss = error.square().sum() / 2 / count
            hidden += torch.autograd.grad(loss, model.value_head.weight)[0]
    for change in changes:
        torch.testing.assert_close(change, hidden, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    "words", [[], ["value.minibatches=2"], ["value.epochs=2"], ["objective.reduction=view"]]
)
def test_a_critic_learns_what_its_trajectories_are_worth(words: list[str], tmp_path: Path) -> None:
    trajectories = toy_trajectories(toy_model())
    views = views_of(trajectories)
    critic = critic_of(toy_value_model(), tmp_path, *words)
    lines = []
    for step in range(1, 16):
        judgement = critic.judge(group_of(trajectories), views)
        lines.append(critic.update(judgement, step, seed=step))
    assert lines[-1]["value_explained_variance"] > 0.5 > lines[0]["value_explained_variance"]
    assert lines[-1]["value_loss"] < 0.5 * lines[0]["value_loss"]
    last = lines[-1]
    assert last["advantage_variance"] < 0.5 * last["advantage_variance_without_critic"]
    assert lines[0]["value_learning_rate"] == 1e-2
    assert {"value_gradient_norm", "value_mean", "value_clipped"} <= lines[0].keys()


def test_values_that_moved_far_enough_are_clipped(tmp_path: Path) -> None:
    trajectories = toy_trajectories(toy_model())
    critic = critic_of(toy_value_model(), tmp_path, "value.epochs=4", "value.clip=0.01")
    judgement = critic.judge(group_of(trajectories), views_of(trajectories))
    assert critic.update(judgement, 1, seed=0)["value_clipped"] > 0


def test_its_cadence_is_its_own(tmp_path: Path) -> None:
    trajectories = written(False)
    critic = critic_of(toy_value_model(), tmp_path, "value.train_every=2", "value.minibatches=3")
    judgement = critic.judge(group_of(trajectories), views_of(trajectories))
    assert "value_loss" not in critic.update(judgement, 1, seed=0)
    assert critic.learner.num_updates == 0
    numbers = critic.update(judgement, 2, seed=0)
    assert critic.learner.num_updates == 3
    assert numbers.keys() >= {"value_loss", "value_explained_variance"}


def test_without_trajectories_nothing_happens(tmp_path: Path) -> None:
    critic = critic_of(toy_value_model(), tmp_path)
    judgement = critic.judge([], [])
    assert (judgement.views, critic.update(judgement, 1, seed=0)) == ([], {})
    assert critic.learner.num_updates == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_critic_goes_on_to_the_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    trajectories = written(False)
    views, groups = views_of(trajectories), group_of(trajectories)

    def learn(critic: Critic, *steps: int) -> None:
        for step in steps:
            critic.update(critic.judge(groups, views), step, seed=step)

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
    views = critic.judge(group_of(trajectories, rewards), views_of(trajectories)).views
    assert all(len(looks.advantages[looks.target.any(0)].unique()) > 1 for looks in views)


@pytest.mark.parametrize("name", TOYS)
def test_a_second_head_judges_as_a_critic_of_the_same_weights(name: str, tmp_path: Path) -> None:
    model = toy_value_model(torch.float64, **TOYS[name])
    policy = toy_model(2, torch.float64, **TOYS[name])
    both = ActorCritic(policy)
    both.value_head.load_state_dict(model.value_head.state_dict())
    config = rl_config(tmp_path, "value.enabled=true", "value.shares_backbone=true")
    learner = Learner(both, config.optimizer)
    trajectories = written(model.spec.is_full)
    views, groups = views_of(trajectories, model.spec.is_full), group_of(trajectories)
    found = SharedCritic(both, learner, config).judge(groups, views)
    wanted = critic_of(model, tmp_path).judge(groups, views)
    torch.testing.assert_close(found.values, wanted.values, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.returns, wanted.returns, rtol=0, atol=1e-12)
    assert found.numbers == pytest.approx(wanted.numbers)
    # The policy's log-probabilities come from the same pass.
    for looks, old in zip(found.views, Learner(policy, config.optimizer).score(views), strict=True):
        torch.testing.assert_close(looks.old_logprobs, old, rtol=0, atol=1e-12)


def test_a_second_head_learns_what_its_trajectories_are_worth(tmp_path: Path) -> None:
    words = ["value.enabled=true", "value.shares_backbone=true", "value.lr=1e-2"]
    config = rl_config(tmp_path, *words, "value.weight=5", "optimizer.lr=1e-3")
    update = build_update(config, toy_model())
    trajectories = toy_trajectories(toy_model())
    groups, views = group_of(trajectories), views_of(trajectories)
    lines = [update.step(groups, views, step, step) for step in range(1, 21)]
    assert lines[-1]["value_explained_variance"] > 0.5 > lines[0]["value_explained_variance"]
    assert lines[-1]["value_loss"] < 0.5 * lines[0]["value_loss"]
    assert {"value_mean", "value_clipped", "advantage_variance", "entropy"} <= lines[0].keys()
