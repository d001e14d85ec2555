"""The negative log-likelihood of hidden tokens.

With noise level t and weight 1/t (`loss.weight = "elbo"`) its expectation bounds -log p(response) from
above (arXiv 2503.09573); with weight 1 it is plain masked prediction, which trains small models better.
"""

from unmask.configs.methods.loss.likelihood import LikelihoodLoss
from unmask.objectives.loss import LossOutput, ScoredTargets
from unmask.objectives.statistics import Statistic


def loss(targets: ScoredTargets, config: LikelihoodLoss) -> LossOutput:
    """Return `-log p` of each target; the weight of `config` is in the views."""
    nll = -targets.logprobs
    return LossOutput(nll, {"nll": Statistic(nll), "entropy": Statistic(targets.entropy)})
