"""DPO on estimates of log-likelihoods, for two answers c (preferred) and r to one prompt of R_c and R_r tokens.

    gain_y = L(y) - L_ref(y), per token with normalize = "length"
    loss   = -log sigmoid(beta (gain_c - gain_r)) - sft L(c) / R_c

L is the mean over the draws of an answer's views, and the views are the same for policy and reference: noise
that both share cancels in a gain. With one mask for each noise level this is VRPO (arXiv 2505.19223). A pair
whose two gains are equal counts half in `pair_accuracy`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.configs.methods.loss.dpo import DPOLoss
from unmask.objectives.loss import LossOutput, ScoredViews
from unmask.objectives.statistics import Statistic


def loss(chosen: ScoredViews, rejected: ScoredViews, config: DPOLoss) -> LossOutput:
    """Return the loss `(1,)` of a pair."""
    gains = [_gain(views, config) for views in (chosen, rejected)]
    margin = config.beta * (gains[0] - gains[1])
    value = -F.logsigmoid(margin)
    if config.sft:
        value = value - config.sft * chosen.of_draws(chosen.logprobs).mean() / chosen.length
    found = {
        "pair_accuracy": (torch.sign(margin) + 1) / 2,
        "margin": margin,
        "chosen_gain": gains[0],
        "rejected_gain": gains[1],
    }
    return LossOutput(value[None], {name: Statistic(x[None]) for name, x in found.items()})


def _gain(views: ScoredViews, config: DPOLoss) -> Tensor:
    """Return `()`, how much likelier the policy makes an answer than the reference does."""
    gain = views.of_draws(views.logprobs - views.reference_logprobs).mean()
    return gain / views.length if config.normalize == "length" else gain
