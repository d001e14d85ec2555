"""The divergence from a teacher on a target at a time, in scalars, and its gradient."""

import math

import pytest
import torch

from unmask.configs.methods.loss.distilled import DistilledLoss
from unmask.objectives.loss import ScoredChoices
from unmask.objectives.methods.distilled import loss


def choices(right: float = 1.0, dtype: torch.dtype = torch.float64) -> ScoredChoices:
    torch.manual_seed(0)
    own, teacher = (torch.randn(3, 5, dtype=dtype) for _ in range(2))
    ones = torch.ones(3, dtype=dtype)
    return ScoredChoices(own.requires_grad_(), teacher, ones, right * ones)


def normalised(row: list[float]) -> list[float]:
    total = math.fsum(math.exp(x) for x in row)
    return [x - math.log(total) for x in row]


@pytest.mark.parametrize("direction", ["reverse", "forward"])
@pytest.mark.parametrize("clip", [None, 0.05, 1.0])
def test_it_is_the_sum_over_the_teachers_tokens(direction: str, clip: float | None) -> None:
    targets, config = (
        choices(),
        DistilledLoss.model_validate({"direction": direction, "token_clip": clip}),
    )
    found = loss(targets, config).loss.detach()
    for n in range(3):
        p, q = (
            normalised(table[n].tolist()) for table in (targets.logprobs, targets.teacher_logprobs)
        )
        if direction == "forward":
            p, q = q, p
        terms = [math.exp(a) * (a - b) for a, b in zip(p, q, strict=True)]
        expected = math.fsum(term if clip is None else min(term, clip) for term in terms)
        assert float(found[n]) == pytest.approx(expected, abs=1e-12)


def test_without_a_clip_it_is_never_negative_and_zero_at_the_teacher() -> None:
    config = DistilledLoss(token_clip=None)
    assert (loss(choices(), config).loss > 0).all()
    teacher = choices().teacher_logprobs
    same = ScoredChoices(teacher + 1.5, teacher, teacher[:, 0], torch.ones(3))
    assert loss(same, config).loss.abs().max() < 1e-12


def test_its_gradient_is_that_of_finite_differences_and_none_where_the_answer_is_wrong() -> None:
    config = DistilledLoss(token_clip=None)

    def total(own: torch.Tensor) -> torch.Tensor:
        given = choices()
        return loss(
            ScoredChoices(own, given.teacher_logprobs, given.entropy, given.right), config
        ).loss.sum()

    assert torch.autograd.gradcheck(total, choices().logprobs)
    wrong = choices(0.0)
    loss(wrong, config).loss.sum().backward()
    assert wrong.logprobs.grad is not None and not wrong.logprobs.grad.any()
