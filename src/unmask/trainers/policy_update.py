"""One RL step's updates: the same trajectories, shuffled into minibatches, one optimizer step each.

Old and reference log-probabilities are taken once, before the first update, and kept per trajectory,
view and slot; epochs and minibatches only change the order in which they are used.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from torch import Tensor

from unmask.configs.rl import RLConfig
from unmask.diffusion.views import Views
from unmask.objectives.reduce import reduction_weights
from unmask.seeds import derive_seed
from unmask.trainers.learner import Learner, Update
from unmask.trainers.losses import build_joint_terms, build_policy_terms, needs_rescoring
from unmask.trainers.scorer import Scorer, tables_of

T = TypeVar("T")
# A trajectory's views, and by name what is known of their targets, `(N, C)` each.
Scored = tuple[Views, Mapping[str, Tensor]]


class PolicyUpdate:
    """Views of a step's trajectories to changed weights."""

    def __init__(
        self,
        learner: Learner,
        config: RLConfig,
        reference: Scorer | None = None,
        is_judged: bool = False,
    ) -> None:
        """Build the objective the config describes.

        Args:
            learner: of the policy, or of policy and critic on one backbone.
            config: the run's.
            reference: what the KL is measured from, if not from the step's own start.
            is_judged: the learner's own critic has read the views before: what it said comes with
                them, old log-probabilities included, and it is trained in the same steps.
        """
        is_single = config.is_single_update
        policy = build_policy_terms(config.objective, is_single)
        rescores = needs_rescoring(config.objective, is_single, learner.model.dtype)
        self._learner = learner
        self._config = config
        self._reference = reference
        self._terms = build_joint_terms(policy, config.value) if is_judged else policy
        self._rescores = rescores and not is_judged

    def __call__(
        self,
        views: Sequence[Views],
        seed: int,
        rate: float,
        known: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> dict[str, float]:
        """Update the weights and return the step's statistics; nothing happens without views.

        Args:
            views: of every trajectory that is trained on.
            seed: of the order of the minibatches.
            rate: learning rate.
            known: what the objective measures from beside log-probabilities, of each trajectory.
        """
        pairs = zip(views, known or [{}] * len(views), strict=True)
        taught = [pair for pair in pairs if len(pair[0].target)]
        if not taught:
            return {"updates": 0}
        if self._config.optimizer.reset_every_step:
            self._learner.reset_optimizer()
        scored = self._score(taught)
        updates = [
            self._update(part, rate)
            for epoch in range(self._config.epochs)
            for part in minibatches(scored, self._config.minibatches, order_seed(seed, epoch))
        ]
        return _merge(updates)

    def _score(self, taught: Sequence[Scored]) -> list[Scored]:
        views, known = [v for v, _ in taught], [k for _, k in taught]
        if self._rescores:
            old = self._learner.score(views)
            views = [replace(v, old_logprobs=o) for v, o in zip(views, old, strict=True)]
        if self._reference is not None:
            anchors = self._reference.score(views)
            known = [{**k, "reference": a} for k, a in zip(known, anchors, strict=True)]
        return list(zip(views, known, strict=True))

    def _update(self, part: Sequence[Scored], rate: float) -> Update:
        weighted, denominator = weighted_views([v for v, _ in part], self._config)
        known = tables_of([k for _, k in part], self._learner.model.device)
        terms = partial(self._terms, known=known)
        return self._learner.update(weighted, terms, denominator, rate)


def weighted_views(views: Sequence[Views], config: RLConfig) -> tuple[list[Views], float]:
    """Lay a batch's reduction over its views' weights; return them, and what the sum is divided by."""
    weights, denominator = reduction_weights(
        [v.target.sum(-1) for v in views], config.objective.reduction, config.sampling.max_tokens
    )
    weighted = [
        replace(v, weight=v.weight * w[:, None]) for v, w in zip(views, weights, strict=True)
    ]
    return weighted, denominator


def order_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch's order; the first is the step's own."""
    return derive_seed(seed, epoch) if epoch else seed


def minibatches(items: Sequence[T], count: int, seed: int) -> list[list[T]]:
    """Shuffle trajectories and share them out evenly over `count` minibatches, none of them empty."""
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    count = min(count, len(shuffled))
    return [shuffled[index::count] for index in range(count)]


def _merge(updates: Sequence[Update]) -> dict[str, float]:
    """Average the statistics over a step's updates, take the largest of maxima, and add tokens up.

    The gap between engine and learner is that of the first update: later ones have moved away on
    purpose.
    """
    first = updates[0].statistics
    merged: dict[str, float] = {"loss": sum(update.loss for update in updates) / len(updates)}
    for name in first:
        values = [update.statistics[name] for update in updates]
        if name.startswith("logprob_gap"):
            merged[name] = values[0]
        elif name.endswith("_max"):
            merged[name] = max(values)
        else:
            merged[name] = sum(values) / len(values)
    merged["packed_tokens"] = sum(update.statistics["packed_tokens"] for update in updates)
    return {**merged, "updates": len(updates)}
