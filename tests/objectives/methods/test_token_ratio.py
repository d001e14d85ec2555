"""One ratio per token, of all views that predict it."""

import pytest
import torch

from tests.objectives.methods.plain import PLAIN
from tests.objectives.methods.toy_views import gradient, scored, terms_of
from unmask.configs.methods.loss.token_ratio import TokenRatioLoss
from unmask.objectives.methods.token_ratio import loss

CONFIGS = [
    TokenRatioLoss(),
    TokenRatioLoss(kl=0.3, clip=(0.05, 0.1)),
    TokenRatioLoss(kl=0.3, kl_estimator="k2"),
    TokenRatioLoss(kl=0.3, kl_estimator="k1"),
]


@pytest.mark.parametrize("advantage", [1.5, -0.7, 0.0])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_it_is_the_plain_loop_in_value_and_gradient(
    config: TokenRatioLoss, advantage: float
) -> None:
    for seed in range(4):
        views = scored(advantage, seed)
        positions = views.trained.nonzero()[:, 0].tolist()
        output = loss(views, config)
        expected = torch.stack(PLAIN["token_ratio"](terms_of(views), positions, advantage, config))
        torch.testing.assert_close(output.loss, expected, rtol=1e-12, atol=1e-12)
        found, wanted = (gradient(views, total) for total in (output.loss, expected))
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
        assert all(s.values.shape == output.loss.shape for s in output.statistics.values())
