"""The clipped loss on a target at a time, in scalars; its gradients are in trainers/test_losses.py."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unmask.configs.methods.loss.clipped import ClippedLoss
from unmask.objectives.loss import ScoredTargets
from unmask.objectives.methods.clipped import loss

LOG = st.floats(-3, 0)


@given(LOG, LOG, LOG, LOG, st.floats(-2, 2), st.sampled_from([0.0, 1.0]))
def test_it_is_the_formula_of_a_target(
    own: float, old: float, behavior: float, reference: float, advantage: float, right: float
) -> None:
    config = ClippedLoss(kl=0.3, clip=(0.1, 0.4), dual_clip=1.5, max_importance=2.0, nll=0.1)
    numbers = (own, 1.0, old, behavior, reference, advantage, right)
    targets = ScoredTargets(*(torch.tensor([x], dtype=torch.float64) for x in numbers))
    output = loss(targets, config)
    ratio = math.exp(own - old)
    gain = min(ratio * advantage, min(max(ratio, 0.9), 1.4) * advantage)
    gain = max(gain, 1.5 * advantage) if advantage < 0 else gain
    importance = min(math.exp(old - behavior), 2.0)
    kl = math.exp(reference - own) - 1 + own - reference
    expected = 0.3 * kl - importance * gain - 0.1 * right * own
    assert float(output.loss) == pytest.approx(expected, abs=1e-12)
    assert float(output.statistics["nll_right"].values) == pytest.approx(-right * own)
    assert float(output.statistics["kl"].values) == pytest.approx(kl)
    assert output.statistics["ratio_max"].reduce == "max"


def test_the_likelihood_of_right_responses_has_a_gradient_of_its_own() -> None:
    logprobs = torch.tensor([-0.5, -2.0], dtype=torch.float64, requires_grad=True)
    own, none = logprobs.detach(), torch.zeros(2, dtype=torch.float64)
    targets = ScoredTargets(logprobs, own, own, own, own, none, torch.tensor([1.0, 0.0]).double())
    loss(targets, ClippedLoss(nll=0.1)).loss.sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [-0.1, 0.0]


def test_statistics_of_what_is_off_are_left_out() -> None:
    zero = torch.zeros(2)
    output = loss(ScoredTargets(zero, zero, zero, zero, zero, zero), ClippedLoss())
    assert output.statistics.keys() == {"ratio", "ratio_max", "clipped", "kl", "entropy"}
