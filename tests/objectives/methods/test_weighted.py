"""The weighted log-likelihood: value and gradient."""

import torch

from unmask.configs.methods.loss.weighted import WeightedLoss
from unmask.objectives.loss import ScoredTargets
from unmask.objectives.methods.weighted import loss


def test_value_and_gradient_are_those_of_the_equation() -> None:
    logprobs = torch.tensor([-0.5, -2.0], dtype=torch.float64, requires_grad=True)
    far = torch.full_like(logprobs, -9).detach()  # no older policy enters
    advantages = torch.tensor([1.0, -0.25], dtype=torch.float64)
    output = loss(ScoredTargets(logprobs, far, far, far, far, advantages), WeightedLoss())
    output.loss.sum().backward()
    assert output.loss.tolist() == [0.5, -0.5]
    assert logprobs.grad is not None and logprobs.grad.tolist() == [-1.0, 0.25]
    assert output.statistics["nll"].values.tolist() == [0.5, 2.0]
