"""Law 4: microbatches of 1, 2 and 8 give the loss, gradient and statistics of one batch."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.invariants.conventions import TOYS, model_of
from tests.toy import SPEC
from tests.trainers.toy_runs import supervised_views
from unmask.configs.objective import ObjectiveConfig, Reduction
from unmask.configs.optimizer import OptimizerConfig
from unmask.diffusion.layout import pack_views
from unmask.diffusion.views import Views
from unmask.engine.engine import conventions_of
from unmask.objectives.reduce import reduction_weights
from unmask.trainers.learner import Learner, Objective, Update
from unmask.trainers.terms import build_policy_terms, supervised_terms

NUM_TRAJECTORIES = 8

# What the largest trajectory takes: 12 clean tokens and two noisy copies of each of 4 blocks, and its
# prefix; under full attention two views of prompt and response.
LARGEST = {False: 4 + 12 + 2 * 4 * (SPEC.block_size or 0), True: 2 * (5 + 10)}
PLAIN = "block-causal"

OBJECTIVES: dict[str, Objective] = {
    "likelihood": supervised_terms,
    "policy, one update": build_policy_terms(ObjectiveConfig(), is_single_update=True),
    "policy, several": build_policy_terms(ObjectiveConfig(kl=0.5), is_single_update=False),
}


def batch(block: int | None) -> list[Views]:
    """Return eight trajectories with two views, old log-probabilities and advantages of both signs."""
    return [
        replace(
            views,
            advantages=torch.full_like(views.advantages, number - 3.5),
            old_logprobs=torch.full_like(views.old_logprobs, -2.5),
            behavior_logprobs=torch.full_like(views.behavior_logprobs, -2.4),
        )
        for number, views in enumerate(supervised_views(NUM_TRAJECTORIES, block=block))
    ]


def update(
    objective: Objective, reduction: Reduction, token_budget: int, model_name: str = PLAIN
) -> tuple[Update, Tensor]:
    """Take one step and return what it reports, and its gradient."""
    model = model_of(model_name, torch.float64)
    views = batch(model.spec.require_block())
    weights, denominator = reduction_weights([v.target.sum(-1) for v in views], reduction, 16)
    views = [replace(v, weight=v.weight * w[:, None]) for v, w in zip(views, weights, strict=True)]
    before = [p.detach().clone() for p in model.parameters()]
    # With so large an epsilon AdamW's first step is minus the gradient, to about seven digits.
    config = OptimizerConfig(lr=1e7, eps=1e7, clip_norm=None, token_budget=token_budget)
    found = Learner(model, config).update(views, objective, denominator)
    change = [old - new.detach() for old, new in zip(before, model.parameters(), strict=True)]
    return found, torch.cat([c.flatten() for c in change])


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("size", [1, 2, NUM_TRAJECTORIES])
def test_the_budget_makes_the_microbatches_this_test_speaks_of(size: int, name: str) -> None:
    model = model_of(name, torch.float64)
    views, budget = batch(model.spec.require_block()), LARGEST[model.spec.is_full] * size
    packs = pack_views(views, conventions_of(model), budget)
    assert len(packs) == pytest.approx(NUM_TRAJECTORIES / size, abs=1 if size == 2 else 0)


@pytest.mark.parametrize("reduction", ["tokens", "sequence", "view", "constant"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_microbatches_of_1_2_and_8_are_one_batch(name: str, reduction: Reduction) -> None:
    whole, gradient = update(OBJECTIVES[name], reduction, LARGEST[False] * NUM_TRAJECTORIES)
    assert gradient.abs().max() > 1e-4
    for size in (1, 2):
        parts, of_parts = update(OBJECTIVES[name], reduction, LARGEST[False] * size)
        assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
        torch.testing.assert_close(of_parts, gradient, rtol=1e-9, atol=1e-12)
        assert parts.statistics == pytest.approx(whole.statistics, rel=1e-10)


@pytest.mark.parametrize("reduction", ["sequence", "view"])
@pytest.mark.parametrize("model_name", TOYS)
def test_they_are_for_every_model(model_name: str, reduction: Reduction) -> None:
    largest = LARGEST[bool(TOYS[model_name].get("attention"))]
    objective = OBJECTIVES["policy, several"]
    whole, gradient = update(objective, reduction, largest * NUM_TRAJECTORIES, model_name)
    assert gradient.abs().max() > 1e-4
    for size in (1, 2):
        parts, of_parts = update(objective, reduction, largest * size, model_name)
        assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
        torch.testing.assert_close(of_parts, gradient, rtol=1e-9, atol=1e-12)
        assert parts.statistics == pytest.approx(whole.statistics, rel=1e-10)


@pytest.mark.parametrize(
    ("model_name", "budget"),
    [("block-causal", 28), ("block-causal, shifted", 28), ("full", 16), ("full, shifted", 16)],
)
def test_a_trajectory_cut_at_block_borders_or_between_views_is_still_one_trajectory(
    model_name: str, budget: int
) -> None:
    whole, gradient = update(supervised_terms, "sequence", 8192, model_name)
    parts, of_parts = update(supervised_terms, "sequence", budget, model_name)
    model = model_of(model_name, torch.float64)
    packs = pack_views(batch(model.spec.require_block()), conventions_of(model), budget)
    assert len(packs) > NUM_TRAJECTORIES
    assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
    torch.testing.assert_close(of_parts, gradient, rtol=1e-9, atol=1e-12)
