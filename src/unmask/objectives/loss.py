"""What a loss is a function of, and what it returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from unmask.objectives.statistics import Statistic


@dataclass(frozen=True, slots=True)
class ScoredTargets:
    """`S` targets of views, and what the model being trained predicts of them.

    Attributes:
        logprobs: `(S,)` under the policy being trained.
        entropy: `(S,)` of its distribution.
        old_logprobs: `(S,)` under the policy that starts the step.
        behavior_logprobs: `(S,)` under the policy that wrote the tokens, from the engine.
        reference_logprobs: `(S,)` under the policy that a KL penalty is measured from.
        advantages: `(S,)`.
    """

    logprobs: Tensor
    entropy: Tensor
    old_logprobs: Tensor
    behavior_logprobs: Tensor
    reference_logprobs: Tensor
    advantages: Tensor


@dataclass(frozen=True, slots=True)
class LossOutput:
    """A loss per target, and its statistics.

    Attributes:
        loss: `(S,)`, to be weighted and summed.
        statistics: by name.
    """

    loss: Tensor
    statistics: Mapping[str, Statistic] = field(default_factory=dict[str, Statistic])
