"""The negative log-likelihood."""

import torch

from unmask.configs.methods.loss.likelihood import LikelihoodLoss
from unmask.objectives.loss import ScoredTargets
from unmask.objectives.methods.likelihood import loss


def test_it_is_minus_the_logprob_with_gradient_minus_one() -> None:
    logprobs = torch.tensor([-0.5, -2.0, 0.0], requires_grad=True)
    own = logprobs.detach()
    targets = ScoredTargets(logprobs, own, own, own, own, own)
    output = loss(targets, LikelihoodLoss())
    output.loss.sum().backward()
    assert output.loss.tolist() == [0.5, 2.0, 0.0]
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [-1.0] * 3
    assert torch.equal(output.statistics["nll"].values, output.loss)
