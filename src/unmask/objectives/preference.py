"""The Bradley-Terry model of preferences: `p(chosen over rejected) = sigmoid(s_c - s_r)` of two scores (1952).

    loss = -log sigmoid(s_c - s_r)

Scores are defined up to a constant, which no loss of differences sets.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.objectives.loss import LossOutput
from unmask.objectives.statistics import Statistic


def bradley_terry(chosen: Tensor, rejected: Tensor) -> LossOutput:
    """Return the loss `(B,)` of the scores of `B` preferred answers and of the others, `(B,)` each.

    A pair of equal scores counts half in `pair_accuracy`.
    """
    margin = chosen - rejected
    statistics = {
        "pair_accuracy": (torch.sign(margin) + 1) / 2,
        "margin": margin,
        "score": (chosen + rejected) / 2,
    }
    return LossOutput(
        -F.logsigmoid(margin), {name: Statistic(value) for name, value in statistics.items()}
    )
