"""One ratio per token, of all views that predict it: coupled-GRPO of DiffuCoder (arXiv 2506.20639).

    l_i = mean over draws of sum over views n of w_ni log pi(x_i | view n)
    loss_i = -min(rho_i A, clip(rho_i) A) + kl KL_i,   rho_i = exp(l_i - l_i,old)

With `views.kind = "coupled"` and `whole` the weights are 1/2 in the view that hides the whole response, and
1/(2t) or 1/(2(1 - t)) in the one of the pair that hides token i, as published; their mean is 3/2, not 1.
"""

from unmask.configs.methods.loss.token_ratio import TokenRatioLoss
from unmask.objectives.loss import LossOutput, ScoredViews
from unmask.objectives.policy import clipped_surrogate, is_clipped, kl_penalty, probability_ratio
from unmask.objectives.statistics import Statistic


def loss(views: ScoredViews, config: TokenRatioLoss) -> LossOutput:
    """Return the loss `(R,)` of each trained position."""
    tables = (views.logprobs, views.old_logprobs, views.reference_logprobs)
    own, old, anchor = map(views.of_positions, tables)
    ratio = probability_ratio(own, old)
    advantages = views.advantage.expand_as(own)
    gain = clipped_surrogate(ratio, advantages, *config.clip)
    kl = kl_penalty(own, anchor, config.kl_estimator)
    statistics = {
        "ratio": Statistic(ratio),
        "ratio_max": Statistic(ratio, "max"),
        "clipped": Statistic(is_clipped(ratio, advantages, *config.clip)),
        "kl": Statistic(kl),
    }
    # Not 0 * kl: far from the old policy k3 overflows, and 0 * inf is NaN.
    return LossOutput(config.kl * kl - gain if config.kl else -gain, statistics)
