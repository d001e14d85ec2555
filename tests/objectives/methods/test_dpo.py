"""DPO on estimates of log-likelihoods: its equation as a plain loop, in value and gradient."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.objectives.methods.plain import Term, estimate
from tests.objectives.methods.toy_views import scored, terms_of
from unmask.configs.methods.loss.dpo import DPOLoss
from unmask.objectives.methods.dpo import loss

CONFIGS = [
    DPOLoss(),
    DPOLoss(beta=2.0, normalize="length"),
    DPOLoss(beta=0.7, sft=0.05),
]


def plain_dpo(
    chosen: list[Term], rejected: list[Term], lengths: tuple[int, int], config: DPOLoss
) -> Tensor:
    """Return `-log sigmoid(beta (gain_c - gain_r)) - sft L(c) / R_c` from scalars."""
    gains = []
    for terms, length in zip((chosen, rejected), lengths, strict=True):
        gain = estimate(terms, lambda x: x.own) - estimate(terms, lambda x: x.anchor)
        gains.append(gain / length if config.normalize == "length" else gain)
    margin = config.beta * (gains[0] - gains[1])
    value = (1 + (-margin).exp()).log()
    return value - config.sft * estimate(chosen, lambda x: x.own) / lengths[0]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_value_and_gradient_are_those_of_the_equation(config: DPOLoss) -> None:
    chosen, rejected = scored(0.0, seed=1), scored(0.0, seed=2)
    expected = plain_dpo(
        terms_of(chosen), terms_of(rejected), (chosen.length, rejected.length), config
    )
    found = loss(chosen, rejected, config)
    tables = [chosen.logprobs, rejected.logprobs]
    assert found.loss.shape == (1,)
    assert found.loss.item() == pytest.approx(expected.item(), rel=1e-12)
    wanted = torch.autograd.grad(expected, tables)
    for own, other in zip(torch.autograd.grad(found.loss.sum(), tables), wanted, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-14)


def test_a_policy_that_is_its_reference_has_no_preference() -> None:
    chosen, rejected = (
        replace(v, reference_logprobs=v.logprobs.detach())
        for v in (scored(0.0, seed=1), scored(0.0, seed=2))
    )
    found = loss(chosen, rejected, DPOLoss())
    assert found.loss.item() == pytest.approx(math.log(2), rel=1e-15)
    statistics = {name: s.values.item() for name, s in found.statistics.items()}
    assert statistics == {
        "pair_accuracy": 0.5,
        "margin": 0,
        "chosen_gain": 0,
        "rejected_gain": 0,
    }


def test_statistics_have_the_sign_of_the_preference() -> None:
    chosen, rejected = scored(0.0, seed=1), scored(0.0, seed=2)
    one, other = (loss(*pair, DPOLoss()) for pair in ((chosen, rejected), (rejected, chosen)))
    assert one.statistics["margin"].values == -other.statistics["margin"].values
    found = {x.statistics["pair_accuracy"].values.item() for x in (one, other)}
    assert found == {0, 1}


def test_a_moving_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="pairs have no rollout step"):
        DPOLoss(kl_to="step")
