"""The clipped surrogate, its weights and the KL, against numbers worked out by hand and plain loops."""

import math
import random
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unmask.objectives.policy import (
    clipped_surrogate,
    is_clipped,
    is_dual_clipped,
    kl_penalty,
    probability_ratio,
    truncated_importance,
)

LOW, HIGH = 0.2, 0.3

# ratio, advantage -> surrogate, its derivative by log pi (the ratio times the advantage, or 0)
CASES = [
    (1.0, 2.0, 2.0, 2.0),
    (1.0, -2.0, -2.0, -2.0),
    (1.5, 2.0, 2.6, 0.0),  # good and already likelier: clipped
    (0.5, 2.0, 1.0, 1.0),  # good and less likely: pulled back
    (1.5, -2.0, -3.0, -3.0),  # bad and likelier: pushed down
    (0.5, -2.0, -1.6, 0.0),  # bad and already less likely: clipped
    (1.5, 0.0, 0.0, 0.0),
    (0.5, 0.0, 0.0, 0.0),
]
IS_CLIPPED = [False, False, True, False, False, True, False, False]


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Return the log-probabilities, ratios and advantages of the cases."""
    ratios, advantages = (
        torch.tensor(column, dtype=torch.float64) for column in list(zip(*CASES, strict=True))[:2]
    )
    old = torch.linspace(-3, -1, len(CASES), dtype=torch.float64)
    logprobs = (old + ratios.log()).requires_grad_()
    return logprobs, probability_ratio(logprobs, old), advantages


def test_surrogate_and_gradient_on_both_sides_of_both_signs(
    batch: tuple[Tensor, Tensor, Tensor],
) -> None:
    gain = clipped_surrogate(*batch[1:], LOW, HIGH)
    gain.sum().backward()
    _, _, surrogates, slopes = zip(*CASES, strict=True)
    assert gain.tolist() == pytest.approx(surrogates)
    assert batch[0].grad is not None
    assert batch[0].grad.tolist() == pytest.approx(slopes)


def test_is_clipped_names_the_targets_whose_gradient_the_clip_took(
    batch: tuple[Tensor, Tensor, Tensor],
) -> None:
    assert is_clipped(*batch[1:], LOW, HIGH).tolist() == IS_CLIPPED


def test_k3_is_zero_at_equality_and_positive_elsewhere() -> None:
    delta = torch.linspace(-3, 3, 61, dtype=torch.float64)
    old = torch.full_like(delta, -4)
    kl = kl_penalty(old + delta, old)
    assert kl[30] == 0
    assert (kl[delta.abs() > 1e-9] > 0).all()
    assert float(kl_penalty(torch.tensor(-1.0), torch.tensor(-2.0))) == pytest.approx(math.exp(-1))


def test_the_gradient_of_k3_pulls_back_to_the_old_policy() -> None:
    delta = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    logprobs = (delta - 2).requires_grad_()
    kl_penalty(logprobs, torch.full_like(delta, -2)).sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([1 - math.e, 0, 1 - 1 / math.e])


def test_k3_is_unbiased_for_tokens_drawn_from_the_current_policy() -> None:
    old, current = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.25, 0.25])
    mean = (current * kl_penalty(current.log(), old.log())).sum()
    assert float(mean) == pytest.approx(float((current * (current / old).log()).sum()))


def test_k1_is_the_difference_and_unbiased_as_well() -> None:
    old, current = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.25, 0.25])
    k1 = kl_penalty(current.log(), old.log(), "k1")
    assert torch.equal(k1, current.log() - old.log())
    assert float((current * k1).sum()) == pytest.approx(
        float((current * (current / old).log()).sum())
    )


def surrogate_by_hand(ratio: float, advantage: float, dual_clip: float | None) -> float:
    """Return the formula in plain numbers."""
    gain = min(ratio * advantage, min(max(ratio, 1 - LOW), 1 + HIGH) * advantage)
    return max(gain, dual_clip * advantage) if dual_clip and advantage < 0 else gain


@pytest.mark.parametrize("dual_clip", [None, 1.5, 3.0])
def test_surrogate_is_its_naive_twin_everywhere(dual_clip: float | None) -> None:
    rng = random.Random(0)
    cases = [(math.exp(rng.uniform(-3, 3)), rng.uniform(-2, 2)) for _ in range(200)]
    ratios, advantages = torch.tensor(cases, dtype=torch.float64).T
    old = torch.full_like(ratios, -2)
    logprobs = (old + ratios.log()).requires_grad_()
    ratio = probability_ratio(logprobs, old)
    gain = clipped_surrogate(ratio, advantages, LOW, HIGH, dual_clip)
    assert gain.tolist() == pytest.approx([surrogate_by_hand(*case, dual_clip) for case in cases])
    gain.sum().backward()
    assert logprobs.grad is not None
    dual = is_dual_clipped(ratio, advantages, dual_clip or math.inf)
    assert dual.any() == (dual_clip is not None)
    assert not (dual & is_clipped(ratio, advantages, LOW, HIGH)).any()
    no_gradient = dual | is_clipped(ratio, advantages, LOW, HIGH)
    assert torch.equal(logprobs.grad == 0, no_gradient)


def test_importance_is_the_ratio_up_to_its_cap_and_has_no_gradient() -> None:
    old = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64, requires_grad=True)
    behavior = torch.tensor([-1.0, -1.0, -3.0], dtype=torch.float64)
    weight = truncated_importance(old, behavior, 2.0)
    assert weight.tolist() == pytest.approx([1.0, math.exp(-1), 2.0])
    assert not weight.requires_grad


def derivative(function: Callable[[Tensor], Tensor], value: float) -> tuple[float, float]:
    """Return the value and the derivative of a function of one log-probability."""
    logprobs = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    found = function(logprobs)
    found.sum().backward()
    assert logprobs.grad is not None
    return float(found.detach()), float(logprobs.grad)


def test_a_clamped_ratio_moves_no_further_and_has_no_gradient_there() -> None:
    anchor = torch.zeros(1, dtype=torch.float64)
    for distance, expected, slope in (
        (0.5, math.exp(0.5), math.exp(0.5)),
        (12.0, math.exp(10), 0.0),
        (-12.0, math.exp(-10), 0.0),
    ):
        found = derivative(lambda x: probability_ratio(x, anchor, 10.0), distance)
        assert found == pytest.approx((expected, slope))
        free = derivative(lambda x: probability_ratio(x, anchor), distance)
        assert free == pytest.approx((math.exp(distance), math.exp(distance)))


# estimator, log-ratio -> value and gradient under the published clamp at 10: the exponential of k3
# stands still beyond it, its linear term and k1 do not.
CLAMPED = [
    ("k3", 15.0, math.exp(-10) + 14, 1.0),
    ("k3", 9.0, math.exp(-9) + 8, 1 - math.exp(-9)),
    ("k3", -9.0, math.exp(9) - 10, 1 - math.exp(9)),
    ("k3", -15.0, math.exp(10) - 16, 1.0),
    ("k1", 15.0, 15.0, 1.0),
    ("k1", -15.0, -15.0, 1.0),
    ("k1", 3.0, 3.0, 1.0),
]


@pytest.mark.parametrize(("estimator", "distance", "expected", "slope"), CLAMPED)
def test_the_clamp_is_on_the_exponential_of_the_kl_alone(
    estimator: Literal["k1", "k3"], distance: float, expected: float, slope: float
) -> None:
    anchor = torch.full((1,), -1.0, dtype=torch.float64)
    found = derivative(lambda x: kl_penalty(x, anchor, estimator, 10.0), distance - 1)
    assert found == pytest.approx((expected, slope))


@given(st.floats(-40, 40), st.floats(0.1, 20), st.booleans())
def test_the_clamped_kl_is_its_published_twin(distance: float, limit: float, is_k3: bool) -> None:
    """Beyond the limit too, where autograd gives the exponential no gradient."""
    anchor = torch.zeros(1, dtype=torch.float64)
    power = max(-limit, min(limit, -distance))
    slope = 1 - math.exp(-distance) * (abs(distance) <= limit)
    expected = (math.exp(power) - 1 + distance, slope) if is_k3 else (distance, 1.0)
    estimator = "k3" if is_k3 else "k1"
    found = derivative(lambda x: kl_penalty(x, anchor, estimator, limit), distance)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_clamp_keeps_a_far_k3_finite() -> None:
    far, anchor = torch.tensor([-200.0]), torch.tensor([0.0])
    assert kl_penalty(far, anchor).isinf()
    assert kl_penalty(far, anchor, limit=10.0).isfinite()
