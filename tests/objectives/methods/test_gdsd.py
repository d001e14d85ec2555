"""The change of the log-probabilities, fitted to the advantage."""

import pytest
import torch

from tests.objectives.methods.plain import PLAIN
from tests.objectives.methods.toy_views import gradient, scored, terms_of
from unmask.configs.methods.loss.gdsd import GDSDLoss
from unmask.objectives.methods.gdsd import loss

CONFIGS = [
    GDSDLoss(),
    GDSDLoss(psi=0.1, kl=0.2),
    GDSDLoss(psi=10.0, clip=(0.9, 9.0)),
    GDSDLoss(clip=(0.01, 0.01)),
]


@pytest.mark.parametrize("advantage", [1.5, -0.7, 0.0])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_it_is_the_plain_loop_in_value_and_gradient(config: GDSDLoss, advantage: float) -> None:
    for seed in range(4):
        views = scored(advantage, seed)
        positions = views.trained.nonzero()[:, 0].tolist()
        output = loss(views, config)
        expected = torch.stack(PLAIN["gdsd"](terms_of(views), positions, advantage, config))
        torch.testing.assert_close(output.loss, expected, rtol=1e-12, atol=1e-12)
        found, wanted = (gradient(views, total) for total in (output.loss, expected))
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
        assert all(s.values.shape == output.loss.shape for s in output.statistics.values())
