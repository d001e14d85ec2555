"""The clipped surrogate and k3, against numbers worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from unmask.objectives.policy import clipped_surrogate, is_clipped, kl_k3

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
    kl = kl_k3(old + delta, old)
    assert kl[30] == 0
    assert (kl[delta.abs() > 1e-9] > 0).all()
    assert float(kl_k3(torch.tensor(-1.0), torch.tensor(-2.0))) == pytest.approx(math.exp(-1))


def test_the_gradient_of_k3_pulls_back_to_the_old_policy() -> None:
    delta = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    logprobs = (delta - 2).requires_grad_()
    kl_k3(logprobs, torch.full_like(delta, -2)).sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([1 - math.e, 0, 1 - 1 / math.e])


def test_k3_is_unbiased_for_tokens_drawn_from_the_current_policy() -> None:
    old, current = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.25, 0.25])
    mean = (current * kl_k3(current.log(), old.log())).sum()
    assert float(mean) == pytest.approx(float((current * (current / old).log()).sum()))
