"""The clipped surrogate, its weights and the KL, against numbers worked out by hand and plain loops."""

import math
import random

import pytest
import torch
from torch import Tensor

from unmask.objectives.policy import (
    clipped_surrogate,
    is_clipped,
    is_dual_clipped,
    keep_near,
    kl_penalty,
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
    """Log-probabilities now and before, and advantages, of the cases."""
    ratios, advantages = (
        torch.tensor(column, dtype=torch.float64) for column in list(zip(*CASES, strict=True))[:2]
    )
    old = torch.linspace(-3, -1, len(CASES), dtype=torch.float64)
    return (old + ratios.log()).requires_grad_(), old, advantages


def test_surrogate_and_gradient_on_both_sides_of_both_signs(
    batch: tuple[Tensor, Tensor, Tensor],
) -> None:
    gain = clipped_surrogate(*batch, LOW, HIGH)
    gain.sum().backward()
    _, _, surrogates, slopes = zip(*CASES, strict=True)
    assert gain.tolist() == pytest.approx(surrogates)
    assert batch[0].grad is not None
    assert batch[0].grad.tolist() == pytest.approx(slopes)


def test_is_clipped_names_the_targets_whose_gradient_the_clip_took(
    batch: tuple[Tensor, Tensor, Tensor],
) -> None:
    assert is_clipped(*batch, LOW, HIGH).tolist() == IS_CLIPPED


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
    """Say the formula again in plain numbers."""
    gain = min(ratio * advantage, min(max(ratio, 1 - LOW), 1 + HIGH) * advantage)
    return max(gain, dual_clip * advantage) if dual_clip and advantage < 0 else gain


@pytest.mark.parametrize("dual_clip", [None, 1.5, 3.0])
def test_surrogate_is_its_naive_twin_everywhere(dual_clip: float | None) -> None:
    rng = random.Random(0)
    cases = [(math.exp(rng.uniform(-3, 3)), rng.uniform(-2, 2)) for _ in range(200)]
    ratios, advantages = torch.tensor(cases, dtype=torch.float64).T
    old = torch.full_like(ratios, -2)
    logprobs = (old + ratios.log()).requires_grad_()
    gain = clipped_surrogate(logprobs, old, advantages, LOW, HIGH, dual_clip)
    assert gain.tolist() == pytest.approx([surrogate_by_hand(*case, dual_clip) for case in cases])
    gain.sum().backward()
    assert logprobs.grad is not None
    dual = is_dual_clipped(logprobs, old, advantages, dual_clip or math.inf)
    assert dual.any() == (dual_clip is not None)
    assert not (dual & is_clipped(logprobs, old, advantages, LOW, HIGH)).any()
    no_gradient = dual | is_clipped(logprobs, old, advantages, LOW, HIGH)
    assert torch.equal(logprobs.grad == 0, no_gradient)


def test_importance_is_the_ratio_up_to_its_cap_and_has_no_gradient() -> None:
    old = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64, requires_grad=True)
    behavior = torch.tensor([-1.0, -1.0, -3.0], dtype=torch.float64)
    weight = truncated_importance(old, behavior, 2.0)
    assert weight.tolist() == pytest.approx([1.0, math.exp(-1), 2.0])
    assert not weight.requires_grad


def test_what_is_kept_near_moves_no_further_and_has_no_gradient_there() -> None:
    anchor = torch.tensor([-1.0, -1.0, -1.0, -1.0])
    logprobs = torch.tensor([-1.5, -12.0, 10.0, -1.0], requires_grad=True)
    near = keep_near(logprobs, anchor, 10.0)
    assert near.tolist() == [-1.5, -11.0, 9.0, -1.0]
    near.sum().backward()
    assert logprobs.grad is not None and logprobs.grad.tolist() == [1, 0, 0, 1]
    assert torch.equal(keep_near(logprobs, anchor, math.inf), logprobs)


def test_the_clamp_keeps_a_far_k3_finite() -> None:
    far, anchor = torch.tensor([-200.0]), torch.tensor([0.0])
    assert kl_penalty(far, anchor).isinf()
    assert kl_penalty(keep_near(far, anchor, 10.0), anchor).isfinite()
