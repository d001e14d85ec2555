"""One ratio per response, of estimates L of its log-likelihood; R is its number of trained tokens.

    normalize = ratio   rho = exp((L - L_old) / R),  loss = -S + kl KL / R        ESPO (arXiv 2512.03759)
    normalize = loss    rho = exp(L - L_old),        loss = -S / R + kl KL / R    GDPO (arXiv 2510.08554)
    normalize = none    rho = exp(L - L_old),        loss = -S + kl KL            EBPO (arXiv 2602.08676)

with S = min(rho A, clip(rho) A). The methods differ further in the views that L is estimated from. KL is
k2 by default, (L - L_anchor)^2 / 2.
"""

from unmask.configs.methods.loss.sequence_ratio import SequenceRatioLoss
from unmask.objectives.loss import LossOutput, ScoredViews
from unmask.objectives.policy import clipped_surrogate, is_clipped, kl_penalty, probability_ratio
from unmask.objectives.statistics import Statistic


def loss(views: ScoredViews, config: SequenceRatioLoss) -> LossOutput:
    """Return the loss of the response, repeated for each of its `R` trained positions."""
    tables = (views.logprobs, views.old_logprobs, views.reference_logprobs)
    own, old, anchor = (views.of_draws(table).mean() for table in tables)
    length = views.length
    of_ratio = length if config.normalize == "ratio" else 1
    of_gain = length if config.normalize == "loss" else 1
    of_kl = 1 if config.normalize == "none" else length
    ratio = probability_ratio(own / of_ratio, old / of_ratio)
    gain = clipped_surrogate(ratio, views.advantage, *config.clip) / of_gain
    kl = kl_penalty(own, anchor, config.kl_estimator) / of_kl
    statistics = {
        "ratio": Statistic(ratio.expand(length)),
        "ratio_max": Statistic(ratio.expand(length), "max"),
        "clipped": Statistic(is_clipped(ratio, views.advantage, *config.clip).expand(length)),
        "kl": Statistic(kl.expand(length)),
    }
    # Not 0 * kl: far from the old policy k3 overflows, and 0 * inf is NaN.
    value = config.kl * kl - gain if config.kl else -gain
    return LossOutput(value.expand(length), statistics)
