"""A lower bound where the advantage is positive, an upper one elsewhere."""

from dataclasses import replace

import pytest
import torch

from tests.objectives.methods.plain import PLAIN
from tests.objectives.methods.toy_views import gradient, scored, terms_of
from unmask.configs.methods.loss.sandwich import SandwichLoss
from unmask.objectives.methods.sandwich import loss, upper_bound

CONFIGS = [
    SandwichLoss(),
    SandwichLoss(beta=1.0, mix=1.0),
    SandwichLoss(beta=2.0, mix=0.0),
]


@pytest.mark.parametrize("advantage", [1.5, -0.7, 0.0])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_it_is_the_plain_loop_in_value_and_gradient(config: SandwichLoss, advantage: float) -> None:
    for seed in range(4):
        views = scored(advantage, seed)
        positions = views.trained.nonzero()[:, 0].tolist()
        output = loss(views, config)
        expected = torch.stack(PLAIN["sandwich"](terms_of(views), positions, advantage, config))
        torch.testing.assert_close(output.loss, expected, rtol=1e-12, atol=1e-12)
        found, wanted = (gradient(views, total) for total in (output.loss, expected))
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
        assert all(s.values.shape == output.loss.shape for s in output.statistics.values())


def test_the_upper_bound_is_above_the_lower_one_and_meets_it_where_all_views_agree() -> None:
    """Views that predict every token alike, with weights that sum to 1 over the draws."""
    views = scored(-1.0)
    is_trained = views.trained.expand(5, -1)
    ones = torch.where(is_trained, 3 / 5, 0.0).double()
    varied = replace(
        views, weight=ones, logprobs=torch.where(is_trained, views.logprobs - 0.1, 0.0)
    )
    lower = varied.of_draws(varied.logprobs).mean() / 4
    assert float((upper_bound(varied, 1.0) - lower).detach()) > 0
    alike = replace(varied, logprobs=torch.where(is_trained, -0.7, 0.0).double())
    for beta in (1.0, 1.5):
        assert float(upper_bound(alike, beta)) == pytest.approx(-0.7)


def test_probabilities_that_underflow_keep_their_logarithms() -> None:
    views = scored(-1.0)
    far = replace(views, logprobs=(views.logprobs.detach() - 2000.0).requires_grad_())
    found = loss(far, SandwichLoss()).loss
    assert found.isfinite().all() and gradient(far, found).isfinite().all()


def test_a_response_that_no_view_has_a_part_of_has_no_loss_and_no_gradient() -> None:
    views = scored(-1.0)
    empty = replace(views, weight=torch.zeros_like(views.weight))
    found = loss(empty, SandwichLoss()).loss
    assert found.tolist() == [0.0] * 4
    assert not gradient(empty, found).any()
