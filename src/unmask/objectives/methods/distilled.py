"""The divergence from a teacher that reads a part of the right answer (d-OPSD, arXiv 2606.18195).

With p and q the policy's and the teacher's distributions over the `M` tokens most probable to the teacher, each
normalised over these:

    loss = right sum_v min(p_v (log p_v - log q_v), token_clip)      reverse, published
           right sum_v min(q_v (log q_v - log p_v), token_clip)      forward
"""

from unmask.configs.methods.loss.distilled import DistilledLoss
from unmask.objectives.loss import LossOutput, ScoredChoices
from unmask.objectives.statistics import Statistic


def loss(targets: ScoredChoices, config: DistilledLoss) -> LossOutput:
    """Return the loss `(S,)` of each target."""
    own, teacher = targets.logprobs.log_softmax(-1), targets.teacher_logprobs.log_softmax(-1)
    first, second = (own, teacher) if config.direction == "reverse" else (teacher, own)
    terms = first.exp() * (first - second)  # (S, M)
    kept = terms if config.token_clip is None else terms.clamp(max=config.token_clip)
    statistics = {
        "divergence": Statistic(terms.detach().sum(-1)),
        "clipped": Statistic((kept != terms).any(-1)),
        "entropy": Statistic(targets.entropy),
    }
    return LossOutput(targets.right * kept.sum(-1), statistics)
