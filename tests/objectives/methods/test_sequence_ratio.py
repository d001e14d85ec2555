"""One ratio per response, of estimates of its log-likelihood."""

from dataclasses import replace

import pytest
import torch

from tests.objectives.methods.plain import PLAIN
from tests.objectives.methods.toy_views import gradient, scored, terms_of
from unmask.configs.methods.loss.sequence_ratio import SequenceRatioLoss
from unmask.objectives.methods.sequence_ratio import loss

CONFIGS = [
    SequenceRatioLoss(),
    SequenceRatioLoss(normalize="loss", kl=0.2, clip=(0.05, 0.1)),
    SequenceRatioLoss(normalize="none", kl=0.2, kl_estimator="k3"),
    SequenceRatioLoss(kl=0.2, kl_estimator="k1", clip=(0.9, 9.0)),
]


@pytest.mark.parametrize("advantage", [1.5, -0.7, 0.0])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_it_is_the_plain_loop_in_value_and_gradient(
    config: SequenceRatioLoss, advantage: float
) -> None:
    for seed in range(4):
        views = scored(advantage, seed)
        positions = views.trained.nonzero()[:, 0].tolist()
        output = loss(views, config)
        expected = torch.stack(
            PLAIN["sequence_ratio"](terms_of(views), positions, advantage, config)
        )
        torch.testing.assert_close(output.loss, expected, rtol=1e-12, atol=1e-12)
        found, wanted = (gradient(views, total) for total in (output.loss, expected))
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
        assert all(s.values.shape == output.loss.shape for s in output.statistics.values())


def test_the_first_gradient_is_the_policy_gradient_of_the_estimate_per_token() -> None:
    start = scored(2.0)
    views = replace(start, old_logprobs=start.logprobs.detach())
    found = gradient(views, loss(views, SequenceRatioLoss()).loss / views.length)
    weight = views.weight / views.num_draws / views.length
    torch.testing.assert_close(found, torch.where(views.weight > 0, -2.0 * weight, 0.0))
