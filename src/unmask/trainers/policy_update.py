"""One RL step's updates: the same trajectories, shuffled into minibatches, one optimizer step each.

Old and reference log-probabilities are taken once, before the first update, and kept per trajectory,
view and position; epochs and minibatches only change the order in which they are used.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from unmask.configs.methods.advantage.value import ValueAdvantage
from unmask.configs.methods.loss.distilled import DistilledLoss
from unmask.configs.rl import RLConfig
from unmask.diffusion.target_table import tables_of
from unmask.diffusion.views import Views
from unmask.objectives.reduce import reduction_weights
from unmask.objectives.statistics import over_updates
from unmask.seeds import derive_seed
from unmask.trainers.learner import Learner, Update
from unmask.trainers.losses import StepObjective, needs_rescoring, reweighted
from unmask.trainers.reference import Scorer
from unmask.trainers.views_loss import Linearise, build_linearise, descend

T = TypeVar("T")
# A trajectory's views, and the columns of its targets that the objective reads, `(N, C)` by name.
Scored = tuple[Views, Mapping[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Updates:
    """The optimizer steps of one RL step, for a policy, a value model, or both.

    Attributes:
        learner: of the weights.
        objective: of the learner's scores.
        config: of the run: the loss's reduction, and whether the optimizer is reset.
        passes: its `epochs` and `minibatches` are the numbers of optimizer steps.
        linearise: the first half of an update, where the loss is one of whole responses.
    """

    learner: Learner
    objective: StepObjective
    config: RLConfig
    passes: RLConfig | ValueAdvantage
    linearise: Linearise | None = None

    def __call__(self, scored: Sequence[Scored], seed: int, rate: float) -> dict[str, float]:
        """Update the weights and return the metrics of all updates, each reduced to one number.

        Args:
            scored: the trajectories; at least one.
            seed: of the order of the minibatches.
            rate: learning rate.
        """
        if self.config.optimizer.reset_every_step:
            self.learner.reset_optimizer()
        updates = [
            self._update(part, rate)
            for epoch in range(self.passes.epochs)
            for part in minibatches(scored, self.passes.minibatches, order_seed(seed, epoch))
        ]
        return {
            "loss": sum(update.loss for update in updates) / len(updates),
            **over_updates([update.metrics for update in updates]),
            "updates": len(updates),
        }

    def _update(self, part: Sequence[Scored], rate: float) -> Update:
        views, columns = zip(*part, strict=True)
        if self.linearise is not None:
            return self._update_linearised(self.linearise, views, columns, rate)
        # A view that stands for others counts as they do.
        counts = [v.counts for v in views]
        reduction, length = self.config.loss.reduction, self.config.sampling.max_tokens
        weights, denominator = reduction_weights(counts, reduction, length)
        objective = partial(self.objective, tables=tables_of(columns, self.learner.model.device))
        return self.learner.update(reweighted(views, weights), objective, denominator, rate)

    def _update_linearised(
        self,
        linearise: Linearise,
        views: Sequence[Views],
        columns: Sequence[Mapping[str, Tensor]],
        rate: float,
    ) -> Update:
        found = linearise(self.learner, views, columns)
        return descend(self.learner, views, found, self.objective, rate)


class PolicyUpdate:
    """Updates the weights from the views of a step's trajectories."""

    def __init__(
        self,
        learner: Learner,
        config: RLConfig,
        objective: StepObjective,
        reference: Scorer | None = None,
        has_old_logprobs: bool = False,
    ) -> None:
        """Decide whether old log-probabilities must be scored.

        Args:
            learner: of the policy, or of policy and value head on one backbone.
            config: of the run.
            objective: of the learner's scores.
            reference: what the KL is measured from, if not from the step's own start.
            has_old_logprobs: the views come with old log-probabilities of the learner's own weights.
        """
        self._learner, self._reference = learner, reference
        self._updates = Updates(learner, objective, config, config, build_linearise(config))
        self._choices = config.loss.top_k if isinstance(config.loss, DistilledLoss) else 0
        has_old_logprobs = has_old_logprobs or self._choices > 0  # a teacher's loss reads none
        self._rescores = not has_old_logprobs and needs_rescoring(config, learner.model.dtype)

    def __call__(
        self,
        views: Sequence[Views],
        seed: int,
        rate: float,
        columns: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> dict[str, float]:
        """Update the weights and return the step's metrics; without views no weight changes.

        Args:
            views: of every trajectory that is trained on.
            seed: of the order of the minibatches.
            rate: learning rate.
            columns: what the objective reads of each trajectory's targets besides log-probabilities.
        """
        pairs = zip(views, columns or [{}] * len(views), strict=True)
        trainable = [pair for pair in pairs if len(pair[0].target)]
        if not trainable:
            return {"updates": 0}
        return self._updates(self._score(trainable), seed, rate)

    def _score(self, trainable: Sequence[Scored]) -> list[Scored]:
        views, columns = [v for v, _ in trainable], [c for _, c in trainable]
        if self._rescores:
            old = self._learner.score(views)
            views = [replace(v, old_logprobs=o) for v, o in zip(views, old, strict=True)]
        if self._choices:
            assert self._reference is not None
            return read_by_teacher(self._reference, views, columns, self._choices)
        if self._reference is not None:
            anchors = self._reference.score(views)
            columns = [{**c, "reference": a} for c, a in zip(columns, anchors, strict=True)]
        return list(zip(views, columns, strict=True))


def read_by_teacher(
    teacher: Scorer, views: Sequence[Views], columns: Sequence[Mapping[str, Tensor]], count: int
) -> list[Scored]:
    """Return views that also target the tokens most probable to a teacher, with its log-probabilities of them.

    Args:
        teacher: reads the hints of the views, which the model that is trained does not.
        views: of the trajectories.
        columns: of their targets, kept as they are.
        count: most tokens of a target, `M`.
    """
    hinted: list[Views] = []
    for one in views:
        assert one.hints is not None, "configs refuse this loss on views without hints"
        hinted.append(replace(one, hidden=one.hidden & ~one.hints))
    ids, logprobs = teacher.most_likely(hinted, count)
    wider = [
        replace(v, target_ids=torch.cat((v.written()[..., None], i), -1))  # (N, C, 1 + M)
        for v, i in zip(views, ids, strict=True)
    ]
    columns = [{**c, "teacher": t} for c, t in zip(columns, logprobs, strict=True)]
    return list(zip(wider, columns, strict=True))


def order_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch's order; the first is the step's own."""
    return derive_seed(seed, epoch) if epoch else seed


def minibatches(items: Sequence[T], count: int, seed: int) -> list[list[T]]:
    """Shuffle trajectories and share them out evenly over `count` minibatches, none of them empty."""
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    count = min(count, len(shuffled))
    return [shuffled[index::count] for index in range(count)]
