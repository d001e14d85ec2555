"""Estimates of a response's log-likelihood: over all masks that can be drawn they are the ELBO."""

from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from math import comb
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.diffusion.methods.method_views import views_of
from tests.toy import toy_model
from tests.trainers.toy_runs import toy_trajectories
from unmask.diffusion.views import Views, views_of_trajectory


def any_logprob(hidden: Tensor) -> Tensor:
    """Return made-up log-probabilities `(C,)` of a view, which depend on what it hides."""
    codes = (2.0 ** torch.arange(len(hidden)) * hidden).sum()
    return -1 - torch.sin(codes + torch.arange(len(hidden))) / 2


def elbo(num_tokens: int) -> float:
    """Return the exact ELBO of those: over the number k of hidden tokens and all sets of k."""
    total = 0.0
    for k in range(1, num_tokens + 1):
        share = Fraction(1, num_tokens) * Fraction(1, comb(num_tokens, k)) * Fraction(num_tokens, k)
        for members in combinations(range(num_tokens), k):
            hidden = torch.zeros(num_tokens, dtype=torch.bool)
            hidden[list(members)] = True
            total += float(share) * float(any_logprob(hidden)[hidden].sum())
    return total


def estimates(views: Views, num_tokens: int) -> Tensor:
    """Return the estimate of each draw, whose views may not hide what is right of the response."""
    estimate = views.likelihood
    found = torch.zeros(int(estimate.draw.max()) + 1, dtype=torch.float64)
    for v, hidden in enumerate(views.hidden):
        logprobs = any_logprob(hidden[:num_tokens]).double()
        found[estimate.draw[v]] += (estimate.weight[v, :num_tokens] * logprobs).sum()
    return found


CHOICES: dict[str, dict[str, Any]] = {
    "coins": {"kind": "random", "level": "response", "low": 1e-3, "high": 1.0},
    "coins, cyclic": {
        "kind": "random",
        "level": "response",
        "low": 1e-3,
        "high": 1.0,
        "spread": "cyclic",
    },
    "counted": {"kind": "counted"},
    "counted, cyclic": {"kind": "counted", "spread": "cyclic"},
    "counted, coupled": {"kind": "counted", "coupled": True},
}


@pytest.mark.parametrize("name", CHOICES)
def test_the_mean_of_many_draws_is_the_elbo(name: str) -> None:
    (trajectory,) = toy_trajectories(toy_model(), 1)
    trajectory = replace(trajectory, num_response=5, finish="length")
    views = views_of(trajectory, CHOICES[name] | {"count": 1024}, is_full=True)
    found = estimates(views, 5)
    assert len(found) == 1024
    # Draws of one cyclic sequence are not independent, and vary less than the standard error states.
    error = float(found.std()) / 32
    assert abs(float(found.mean()) - elbo(5)) < 4 * error + 0.01


def variance(choice: dict[str, Any]) -> float:
    """Return the variance, over seeds, of the mean of four forward passes of an estimate."""
    (trajectory,) = toy_trajectories(toy_model(), 1)
    trajectory = replace(trajectory, num_response=8, finish="length")
    means = []
    for seed in range(200):
        seeded = replace(trajectory, sampling=replace(trajectory.sampling, seed=seed))
        means.append(float(estimates(views_of(seeded, choice, is_full=True), 8).mean()))
    return float(torch.tensor(means).var())


def test_a_cyclic_spread_and_exact_counts_have_less_variance_than_coins() -> None:
    coins = variance(CHOICES["coins"] | {"count": 4})
    counted = variance({"kind": "counted", "count": 4})
    cyclic = variance({"kind": "counted", "count": 4, "spread": "cyclic"})
    assert cyclic < counted < coins


def test_along_a_trajectory_the_estimate_is_the_sum_over_its_targets() -> None:
    (trajectory,) = toy_trajectories(toy_model(), 1)
    views = views_of_trajectory(trajectory, 1.0)
    estimate = views.likelihood
    assert torch.equal(estimate.weight, views.target.double())
    assert estimate.draw.tolist() == [0] * len(views.target)
    assert int(estimate.trained.sum()) == trajectory.num_response


def test_a_sample_of_denoising_steps_is_unbiased_for_their_sum() -> None:
    (trajectory,) = toy_trajectories(toy_model(), 1, strategy="left_to_right")
    whole = views_of_trajectory(trajectory, 1.0)

    def value(views: Views) -> float:
        return float((views.likelihood.weight * views.behavior_logprobs).sum())

    found = []
    for seed in range(400):
        seeded = replace(trajectory, sampling=replace(trajectory.sampling, seed=seed))
        found.append(value(views_of(seeded, {"kind": "steps", "count": 3})))
    assert len(whole.target) == 4
    spread = float(torch.tensor(found).std()) / 20
    assert spread > 0
    assert abs(sum(found) / len(found) - value(whole)) < 4 * spread
