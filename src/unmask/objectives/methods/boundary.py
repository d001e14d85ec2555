"""BGPO: a bound of the sequence ratio that is a sum over the draws of the ELBO (arXiv 2510.11683).

Of draw d, with estimate L_d of the log-likelihood of R tokens:

    delta_d = (L_d - L_d,old) / R
    rho_d   = 1 + delta_d where A > 0,   exp(delta_d) elsewhere
    loss    = -mean over d of min(rho_d A, clip(rho_d) A), no lower than dual_clip A where A < 0

Both are below the objective of the ratio exp(mean delta), by e^x >= 1 + x and by Jensen's inequality, and
equal it in value and gradient where delta is 0: in the first update of a step the method is the plain
policy gradient of the ELBO, so it differs from others only with several updates per step. A sum over
draws can be differentiated one draw at a time; here every loss of views can (`trainers/views_loss.py`).
"""

import torch

from unmask.configs.methods.loss.boundary import BoundaryLoss
from unmask.objectives.loss import LossOutput, ScoredViews
from unmask.objectives.policy import clipped_surrogate, is_clipped
from unmask.objectives.statistics import Statistic


def loss(views: ScoredViews, config: BoundaryLoss) -> LossOutput:
    """Return the loss of the response, repeated for each of its `R` trained positions."""
    own, old = map(views.of_draws, (views.logprobs, views.old_logprobs))
    delta = (own - old) / views.length  # (D,)
    advantages = views.advantage.expand_as(delta)
    ratio = torch.where(advantages > 0, 1 + delta, delta.exp())
    gain = clipped_surrogate(ratio, advantages, *config.clip, config.dual_clip).mean()
    clipped = is_clipped(ratio, advantages, *config.clip).double().mean()
    length = views.length
    statistics = {
        "ratio": Statistic(ratio.mean().expand(length)),
        "ratio_max": Statistic(ratio.amax().expand(length), "max"),
        "clipped": Statistic(clipped.expand(length)),
    }
    return LossOutput((-gain).expand(length), statistics)
