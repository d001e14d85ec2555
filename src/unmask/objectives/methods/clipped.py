"""The clipped surrogate with its KL penalty, and the likelihood of right responses (`loss.nll`).

The first two terms are those of `objectives/policy.py`; the third is `-log pi` of each target of a right response
(LightningRL, arXiv 2603.13319).
"""

import math

from unmask.configs.methods.loss.clipped import ClippedLoss
from unmask.objectives.loss import LossOutput, ScoredTargets
from unmask.objectives.policy import (
    clipped_surrogate,
    is_clipped,
    is_dual_clipped,
    kl_penalty,
    probability_ratio,
    truncated_importance,
)
from unmask.objectives.statistics import Statistic


def loss(targets: ScoredTargets, config: ClippedLoss) -> LossOutput:
    """Return `kl * KL - importance * surrogate - nll * right * log pi` of each target."""
    advantages, old = targets.advantages, targets.old_logprobs
    limit = config.max_log_ratio or math.inf
    ratio = probability_ratio(targets.logprobs, old, limit)
    gain = clipped_surrogate(ratio, advantages, *config.clip, config.dual_clip)
    kl = kl_penalty(targets.logprobs, targets.reference_logprobs, config.kl_estimator, limit)
    statistics = {
        "ratio": Statistic(ratio),
        "ratio_max": Statistic(ratio, "max"),
        "clipped": Statistic(is_clipped(ratio, advantages, *config.clip)),
        "kl": Statistic(kl),
        "entropy": Statistic(targets.entropy),
    }
    if config.dual_clip is not None:
        is_stopped = is_dual_clipped(ratio, advantages, config.dual_clip)
        statistics["dual_clipped"] = Statistic(is_stopped)
    if config.max_importance is not None:
        importance = truncated_importance(old, targets.behavior_logprobs, config.max_importance)
        gain = importance * gain
        statistics |= {
            "importance": Statistic(importance),
            "importance_max": Statistic(importance, "max"),
        }
    if config.nll:
        assert targets.right is not None, "loss.nll reads which responses are right"
        nll = -targets.right * targets.logprobs
        statistics["nll_right"] = Statistic(nll)
        gain = gain - config.nll * nll
    # Not 0 * kl: far from the old policy k3 overflows, and 0 * inf is NaN.
    return LossOutput(config.kl * kl - gain if config.kl else -gain, statistics)
