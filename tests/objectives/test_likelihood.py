"""The supervised objective."""

import torch

from unmask.objectives.likelihood import negative_log_likelihood


def test_it_is_the_logprob_with_its_sign_turned_and_gradient_minus_one() -> None:
    logprobs = torch.tensor([-0.5, -2.0, 0.0], requires_grad=True)
    loss = negative_log_likelihood(logprobs)
    loss.sum().backward()
    assert loss.tolist() == [0.5, 2.0, 0.0]
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [-1.0] * 3
