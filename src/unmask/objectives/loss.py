"""What a loss is a function of, and what it returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
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
        right: `(S,)`, 1 where the response is right and 0 elsewhere; None where no loss reads it.
    """

    logprobs: Tensor
    entropy: Tensor
    old_logprobs: Tensor
    behavior_logprobs: Tensor
    reference_logprobs: Tensor
    advantages: Tensor
    right: Tensor | None = None


@dataclass(frozen=True, slots=True)
class ScoredChoices:
    """`S` targets of views, and what the model being trained and a teacher predict in their place.

    Attributes:
        logprobs: `(S, M)` under the policy being trained, of the tokens most probable to the teacher.
        teacher_logprobs: `(S, M)` under the teacher.
        entropy: `(S,)` of the policy's distribution.
        right: `(S,)`, 1 where the response is right and 0 elsewhere.
    """

    logprobs: Tensor
    teacher_logprobs: Tensor
    entropy: Tensor
    right: Tensor


@dataclass(frozen=True, slots=True)
class ScoredViews:
    """All views of one trajectory, and what the model being trained predicts of them.

    A draw is a set of views that estimates the log-likelihood of the response: the sum over its targets of
    `weight * logprobs` (`diffusion/likelihood.py`).

    Attributes:
        logprobs: `(N, C)` fp64, under the policy being trained; 0 where there is no target.
        old_logprobs: `(N, C)` under the policy that starts the step.
        reference_logprobs: `(N, C)` under the policy that a KL penalty is measured from.
        weight: `(N, C)` of each target in the estimate; 0 where there is no target.
        draw: `(N,)` number of the draw that each view belongs to, of `D`.
        trained: `(C,)` bool, the `R` positions of the response that are trained.
        advantage: `()` of the response.
    """

    logprobs: Tensor
    old_logprobs: Tensor
    reference_logprobs: Tensor
    weight: Tensor
    draw: Tensor
    trained: Tensor
    advantage: Tensor

    @property
    def length(self) -> int:
        """Number `R` of trained positions."""
        return int(self.trained.sum())

    @property
    def num_draws(self) -> int:
        """Number `D` of draws."""
        return int(self.draw.max()) + 1

    def of_draws(self, table: Tensor) -> Tensor:
        """Return the estimate `(D,)` of each draw from a table `(N, C)` of log-probabilities."""
        zeros = torch.zeros(self.num_draws, dtype=table.dtype)
        return zeros.index_add(0, self.draw, (self.weight * table).sum(-1))

    def of_positions(self, table: Tensor) -> Tensor:
        """Return the share `(R,)` of each trained position in the mean of all estimates."""
        return (self.weight * table).sum(0)[self.trained] / self.num_draws


@dataclass(frozen=True, slots=True)
class LossOutput:
    """A loss per target, or per trained position of a response, and its statistics.

    Attributes:
        loss: `(S,)` or `(R,)`, to be weighted and summed.
        statistics: by name.
    """

    loss: Tensor
    statistics: Mapping[str, Statistic] = field(default_factory=dict[str, Statistic])
