"""Guided denoiser self-distillation (arXiv 2605.29398): the change of log-probabilities is fitted to the advantage.

Of draw d of a response of R trained tokens, with the mean over the views of the draw (two where masks come
with their complements) of the sum over their targets, without weights:

    delta_d = mean over views of sum_i (log pi - log pi_old),  clamped to [log(1 - low), log(1 + high)]
    loss    = mean over d of (delta_d / R - psi A)^2 + kl (log pi - log pi_anchor)_d^2 / (2 R)

The optimum of the KL-regularised objective has log pi = log pi_old + A / lambda up to a constant; no ratio of
likelihoods is estimated. In the first update of a step delta is 0 and the gradient -2 psi A / R.
"""

import math

import torch
from torch import Tensor

from unmask.configs.methods.loss.gdsd import GDSDLoss
from unmask.objectives.loss import LossOutput, ScoredViews
from unmask.objectives.statistics import Statistic


def loss(views: ScoredViews, config: GDSDLoss) -> LossOutput:
    """Return the loss of the response, repeated for each of its `R` trained positions."""
    low, high = config.clip
    length = views.length
    delta = _of_draws(views, views.logprobs - views.old_logprobs)  # (D,)
    clamped = delta.clamp(math.log(1 - low), math.log(1 + high))
    error = (clamped / length - config.psi * views.advantage) ** 2
    kl = _of_draws(views, views.logprobs - views.reference_logprobs) ** 2 / (2 * length)
    value = (error + config.kl * kl).mean()
    is_clamped = (clamped != delta).double().mean()
    statistics = {"kl": kl.mean(), "clipped": is_clamped, "change": (delta / length).mean()}
    return LossOutput(
        value.expand(length),
        {name: Statistic(number.expand(length)) for name, number in statistics.items()},
    )


def _of_draws(views: ScoredViews, table: Tensor) -> Tensor:
    """Return the mean `(D,)` over the views of each draw of the sum over their targets."""
    is_target = (views.weight > 0).to(table)
    zeros = torch.zeros(views.num_draws, dtype=table.dtype)
    sums = zeros.index_add(0, views.draw, (is_target * table).sum(-1))
    return sums / zeros.index_add(0, views.draw, torch.ones_like(table[:, 0]))
