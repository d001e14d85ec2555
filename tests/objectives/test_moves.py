"""The loss of whole moves: one ratio per move, and the gradient of single factors where it is 1."""

import torch
from torch import Tensor

from unmask.configs.methods.loss.clipped import ClippedLoss
from unmask.objectives.loss import ScoredTargets
from unmask.objectives.methods.clipped import loss
from unmask.objectives.moves import loss_of_moves

MOVE = torch.tensor([0, 2, 0, 2, 2])


def targets_of(logprobs: Tensor, old: Tensor, advantages: list[float]) -> ScoredTargets:
    return ScoredTargets(
        logprobs, torch.zeros(5), old, old, old, torch.tensor(advantages, dtype=torch.float64)
    )


def test_a_move_has_one_ratio_and_one_clip() -> None:
    old = torch.tensor([-1.0, -2.0, -0.5, -0.1, -3.0], dtype=torch.float64)
    change = torch.tensor([0.3, -0.3, -0.25, 0.1, 0.5], dtype=torch.float64)
    config = ClippedLoss(likelihood="move", per_move=True, kl=0.5)
    targets = targets_of(old + change, old, [1.0, 2.0, 1.0, 2.0, 2.0])
    found = loss_of_moves(lambda t: loss(t, config), targets, MOVE)
    first, second = torch.tensor(0.05).double().exp(), torch.tensor(0.3).double().exp()
    kl = [torch.exp(-d) - 1 + d for d in (torch.tensor(0.05).double(), torch.tensor(0.3).double())]
    expected = [0.5 * kl[0] - first, 0.5 * kl[1] - 1.2 * 2]  # the second is clipped
    torch.testing.assert_close(found.loss[[0, 2]].sum(), expected[0])
    torch.testing.assert_close(found.loss[[1, 3, 4]].sum(), expected[1])
    ratios = found.statistics["ratio"].values
    torch.testing.assert_close(ratios, torch.stack((first, second))[MOVE.clamp(max=1)])


def test_at_a_ratio_of_1_the_gradient_is_that_of_single_factors() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -0.5, -0.1, -3.0], dtype=torch.float64)
    advantages = [1.0, -2.0, 1.0, -2.0, -2.0]
    found = []
    for is_per_move in (False, True):
        leaf = logprobs.clone().requires_grad_()
        targets, config = targets_of(leaf, logprobs, advantages), ClippedLoss()
        own = (
            loss_of_moves(lambda t: loss(t, ClippedLoss()), targets, MOVE)
            if is_per_move
            else loss(targets, config)
        )
        found.append(torch.autograd.grad(own.loss.sum(), leaf)[0])
    torch.testing.assert_close(*found)
