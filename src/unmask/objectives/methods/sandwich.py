"""SPG: policy gradient between two bounds of the log-likelihood (arXiv 2510.09541).

Of a response of R trained tokens, with w_ni the weight of target i in view n, averaged over draws:

    ELBO = sum_ni w_ni log pi_ni / R
    EUBO = mean over predicted tokens i of log(sum_n w_ni pi_ni^beta) / beta
    loss = -A ELBO                                    where A > 0
           -A (mix EUBO + (1 - mix) ELBO)             elsewhere

A lower bound is raised for good responses and an upper bound is lowered for bad ones, so that the true
log-likelihood follows. The Renyi bound of order beta holds up to a constant that has no gradient.
"""

import torch

from unmask.configs.methods.loss.sandwich import SandwichLoss
from unmask.objectives.loss import LossOutput, ScoredViews
from unmask.objectives.statistics import Statistic


def loss(views: ScoredViews, config: SandwichLoss) -> LossOutput:
    """Return the loss of the response, repeated for each of its `R` trained positions."""
    lower = views.of_draws(views.logprobs).mean() / views.length
    upper = upper_bound(views, config.beta)
    is_negative = float(views.advantage) <= 0
    bound = config.mix * upper + (1 - config.mix) * lower if is_negative else lower
    statistics = {"elbo": lower, "eubo": upper}
    return LossOutput(
        (-views.advantage * bound).expand(views.length),
        {name: Statistic(value.expand(views.length)) for name, value in statistics.items()},
    )


def upper_bound(views: ScoredViews, beta: float) -> torch.Tensor:
    """Return the Renyi upper bound per token, over the positions that some view predicts; 0 without any."""
    seen = (views.weight > 0).any(0)  # (C,)
    if not seen.any():
        return views.logprobs.sum() * 0  # without gradient, where a mean of nothing is NaN
    weight = views.weight[:, seen] / views.num_draws
    # log(0) = -inf where a view does not predict a position that another one does.
    powers = beta * views.logprobs[:, seen] + weight.log()
    return powers.logsumexp(0).mean() / beta
