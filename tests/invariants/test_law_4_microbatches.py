"""Law 4: microbatches of 1, 2 and 8 give the loss, gradient and statistics of one batch."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.toy import SPEC, toy_model
from tests.trainers.toy_runs import supervised_views
from unmask.configs.objective import ObjectiveConfig, Reduction
from unmask.configs.optimizer import OptimizerConfig
from unmask.diffusion.layout import pack_views
from unmask.diffusion.views import Views
from unmask.objectives.reduce import reduction_weights
from unmask.trainers.learner import Learner, Objective, Update
from unmask.trainers.terms import build_policy_terms, supervised_terms

NUM_TRAJECTORIES = 8

# Longest packed document: 12 clean tokens and two noisy copies of each of 4 blocks, and its prefix.
LARGEST = 4 + 12 + 2 * 4 * SPEC.block_size

OBJECTIVES: dict[str, Objective] = {
    "likelihood": supervised_terms,
    "policy, one update": build_policy_terms(ObjectiveConfig(), is_single_update=True),
    "policy, several": build_policy_terms(ObjectiveConfig(kl=0.5), is_single_update=False),
}


def batch() -> list[Views]:
    """Return eight trajectories with two views, old log-probabilities and advantages of both signs."""
    return [
        replace(
            views,
            advantages=torch.full_like(views.advantages, number - 3.5),
            old_logprobs=torch.full_like(views.old_logprobs, -2.5),
            behavior_logprobs=torch.full_like(views.behavior_logprobs, -2.4),
        )
        for number, views in enumerate(supervised_views(NUM_TRAJECTORIES))
    ]


def update(objective: Objective, reduction: Reduction, token_budget: int) -> tuple[Update, Tensor]:
    """Take one step and return what it reports, and its gradient."""
    views = batch()
    weights, denominator = reduction_weights([v.target.sum(-1) for v in views], reduction, 16)
    views = [replace(v, weight=v.weight * w[:, None]) for v, w in zip(views, weights, strict=True)]
    model = toy_model(dtype=torch.float64)
    before = [p.detach().clone() for p in model.parameters()]
    # With so large an epsilon AdamW's first step is minus the gradient, to about seven digits.
    config = OptimizerConfig(lr=1e7, eps=1e7, clip_norm=None, token_budget=token_budget)
    found = Learner(model, config).update(views, objective, denominator)
    change = [old - new.detach() for old, new in zip(before, model.parameters(), strict=True)]
    return found, torch.cat([c.flatten() for c in change])


@pytest.mark.parametrize("size", [1, 2, NUM_TRAJECTORIES])
def test_the_budget_makes_the_microbatches_this_test_speaks_of(size: int) -> None:
    packs = pack_views(batch(), 1, LARGEST * size)
    assert len(packs) == pytest.approx(NUM_TRAJECTORIES / size, abs=1 if size == 2 else 0)


@pytest.mark.parametrize("reduction", ["tokens", "sequence", "view", "constant"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_microbatches_of_1_2_and_8_are_one_batch(name: str, reduction: Reduction) -> None:
    whole, gradient = update(OBJECTIVES[name], reduction, LARGEST * NUM_TRAJECTORIES)
    assert gradient.abs().max() > 1e-4
    for size in (1, 2):
        parts, of_parts = update(OBJECTIVES[name], reduction, LARGEST * size)
        assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
        torch.testing.assert_close(of_parts, gradient, rtol=1e-9, atol=1e-12)
        assert parts.statistics == pytest.approx(whole.statistics, rel=1e-10)


def test_a_trajectory_cut_at_block_borders_is_still_one_trajectory() -> None:
    whole, gradient = update(supervised_terms, "sequence", 8192)
    parts, of_parts = update(supervised_terms, "sequence", 28)
    assert len(pack_views(batch(), 1, 28)) > NUM_TRAJECTORIES
    assert parts.loss == pytest.approx(whole.loss, rel=1e-12)
    torch.testing.assert_close(of_parts, gradient, rtol=1e-9, atol=1e-12)
