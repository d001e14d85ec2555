"""Masks at the nodes of a Gauss rule."""

import math
from dataclasses import replace

import torch

from tests.diffusion.methods.method_views import views_of
from tests.toy import toy_model
from tests.trainers.toy_runs import toy_trajectories


def test_three_nodes_hide_their_share_with_the_weights_of_the_rule() -> None:
    (found,) = toy_trajectories(toy_model(), 1)
    trajectory = replace(found, num_response=9, finish="length")
    views = views_of(trajectory, {"kind": "quadrature", "points": 3, "count": 2}, True)
    nodes = [(1 - math.sqrt(3 / 5)) / 2, 0.5, (1 + math.sqrt(3 / 5)) / 2]
    weights = [5 / 18, 8 / 18, 5 / 18]
    assert views.likelihood.draw.tolist() == [0, 0, 0, 1, 1, 1]
    for v, target in enumerate(views.target):
        node, weight = nodes[v % 3], weights[v % 3]
        assert int(target.sum()) == max(1, math.floor(9 * node))
        expected = torch.full((int(target.sum()),), weight / node, dtype=torch.float64)
        torch.testing.assert_close(views.likelihood.weight[v][target], expected)
    assert not torch.equal(views.target[1], views.target[4])


def test_a_response_of_one_token_is_hidden_at_every_node() -> None:
    (found,) = toy_trajectories(toy_model(), 1)
    views = views_of(replace(found, num_response=1, finish="length"), {"kind": "quadrature"}, True)
    assert views.target.sum(-1).tolist() == [1, 1, 1]


def test_the_rule_is_exact_for_a_loss_that_is_a_polynomial_of_the_level() -> None:
    """With log-probabilities t^4 of a view at level t, the ELBO per token is the integral of t^4."""
    (found,) = toy_trajectories(toy_model(), 1)
    trajectory = replace(found, num_response=9, finish="length")
    views = views_of(trajectory, {"kind": "quadrature", "points": 3}, True)
    assert views.noise_level is not None
    level = views.noise_level[:, 0]
    weight = views.likelihood.weight.amax(-1) * level  # of the rule
    assert abs(float((weight * level**4).sum()) - 1 / 5) < 1e-12
