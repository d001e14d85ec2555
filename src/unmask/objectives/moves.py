"""Losses of whole moves: one ratio, one clip and one divergence for everything that a denoising step drew.

The probability of a move is the product of its factors (`diffusion/moves.py`), so a log-ratio is a sum. At a
ratio of 1 the gradient is that of a loss of single factors.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from unmask.objectives.loss import LossOutput, ScoredTargets


def loss_of_moves(
    loss: Callable[[ScoredTargets], LossOutput], targets: ScoredTargets, move: Tensor
) -> LossOutput:
    """Return the loss `(S,)` of whole moves, shared out equally over the factors of each.

    Args:
        loss: of single targets, each of which is given a move.
        targets: the `S` factors, whose advantage a move has on average.
        move: `(S,)` number of the move of each, below `S`.
    """
    count = torch.zeros_like(targets.advantages).index_add(
        0, move, torch.ones_like(targets.advantages)
    )
    count = count.clamp(min=1)

    def summed(values: Tensor) -> Tensor:
        """Return the sum `(S,)` over the factors of each move; numbers that no move has get 0."""
        return torch.zeros_like(values).index_add(0, move, values)

    together = ScoredTargets(
        logprobs=summed(targets.logprobs),
        entropy=summed(targets.entropy),
        old_logprobs=summed(targets.old_logprobs),
        behavior_logprobs=summed(targets.behavior_logprobs),
        reference_logprobs=summed(targets.reference_logprobs),
        advantages=summed(targets.advantages) / count,
    )
    found = loss(together)
    statistics = {n: s._replace(values=s.values[move]) for n, s in found.statistics.items()}
    return replace(found, loss=(found.loss / count)[move], statistics=statistics)
