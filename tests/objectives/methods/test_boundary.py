"""A bound of the sequence ratio, one for each draw."""

from dataclasses import replace

import pytest
import torch

from tests.objectives.methods.plain import PLAIN
from tests.objectives.methods.toy_views import gradient, scored, terms_of
from unmask.configs.methods.loss.boundary import BoundaryLoss
from unmask.configs.methods.loss.sequence_ratio import SequenceRatioLoss
from unmask.objectives.methods.boundary import loss
from unmask.objectives.methods.sequence_ratio import loss as of_ratio

CONFIGS = [
    BoundaryLoss(),
    BoundaryLoss(dual_clip=1.01, clip=(0.05, 0.1)),
    BoundaryLoss(dual_clip=None, clip=(0.9, 9.0)),
]


@pytest.mark.parametrize("advantage", [1.5, -0.7, 0.0])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_it_is_the_plain_loop_in_value_and_gradient(config: BoundaryLoss, advantage: float) -> None:
    for seed in range(4):
        views = scored(advantage, seed)
        positions = views.trained.nonzero()[:, 0].tolist()
        output = loss(views, config)
        expected = torch.stack(PLAIN["boundary"](terms_of(views), positions, advantage, config))
        torch.testing.assert_close(output.loss, expected, rtol=1e-12, atol=1e-12)
        found, wanted = (gradient(views, total) for total in (output.loss, expected))
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
        assert all(s.values.shape == output.loss.shape for s in output.statistics.values())


WIDE: tuple[float, float] = (0.999, 99.0)


@pytest.mark.parametrize("advantage", [1.5, -0.7])
def test_it_is_above_the_loss_of_the_sequence_ratio_and_equal_on_policy(advantage: float) -> None:
    """With clips that bind neither; in value and gradient where nothing has changed yet."""
    bound, ratio = BoundaryLoss(clip=WIDE, dual_clip=None), SequenceRatioLoss(clip=WIDE)
    for seed in range(4):
        views = scored(advantage, seed)
        first, second = loss(views, bound).loss, of_ratio(views, ratio).loss
        assert float(first[0].detach()) > float(second[0].detach()) + 1e-6
        fresh = scored(advantage, seed, change=0.0)
        same = replace(fresh, old_logprobs=fresh.logprobs.detach())
        first, second = loss(same, bound).loss, of_ratio(same, ratio).loss
        torch.testing.assert_close(first, second)
        torch.testing.assert_close(gradient(same, first), gradient(same, second))
