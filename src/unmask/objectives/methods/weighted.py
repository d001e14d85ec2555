"""The weighted log-likelihood: `-A log pi` of each target, without a ratio (wd1, arXiv 2507.08838, equation 8).

With the advantages of `advantage.kind = "softmax"` responses of high reward are made likelier and those of
low reward less likely. No older policy enters, so nothing bounds how far several updates of one step go.
"""

from unmask.configs.methods.loss.weighted import WeightedLoss
from unmask.objectives.loss import LossOutput, ScoredTargets
from unmask.objectives.statistics import Statistic


def loss(targets: ScoredTargets, config: WeightedLoss) -> LossOutput:
    """Return `-A log pi` of each target."""
    statistics = {"nll": Statistic(-targets.logprobs), "entropy": Statistic(targets.entropy)}
    return LossOutput(-targets.advantages * targets.logprobs, statistics)
