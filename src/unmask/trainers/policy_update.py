"""One RL step's updates: the same trajectories, shuffled into minibatches, one optimizer step each."""

import random
from collections.abc import Sequence
from dataclasses import replace

from unmask.configs.rl import RLConfig
from unmask.diffusion.views import Views
from unmask.objectives.reduce import reduction_weights
from unmask.trainers.learner import Learner, Update
from unmask.trainers.terms import build_policy_terms, needs_rescoring


class PolicyUpdate:
    """Views of a step's trajectories to changed weights."""

    def __init__(self, learner: Learner, config: RLConfig) -> None:
        """Build the objective the config describes."""
        is_single_update = config.minibatches == 1
        self._learner = learner
        self._config = config
        self._terms = build_policy_terms(config.objective, is_single_update)
        self._rescores = needs_rescoring(config.objective, is_single_update, learner.model.dtype)

    def __call__(self, views: Sequence[Views], seed: int, rate: float) -> dict[str, float]:
        """Update the weights and return the step's statistics; nothing happens without views.

        Args:
            views: of every trajectory that is trained on.
            seed: of the order of the minibatches.
            rate: learning rate.
        """
        if self._rescores:
            scored = self._learner.score(views)
            views = [replace(v, old_logprobs=old) for v, old in zip(views, scored, strict=True)]
        parts = minibatches(views, self._config.minibatches, seed)
        updates = [self._update(part, rate) for part in parts]
        return _merge(updates) if updates else {}

    def _update(self, views: Sequence[Views], rate: float) -> Update:
        weights, denominator = reduction_weights(
            [v.target.sum(-1) for v in views],
            self._config.objective.reduction,
            self._config.sampling.max_tokens,
        )
        weighted = [
            replace(v, weight=v.weight * w[:, None]) for v, w in zip(views, weights, strict=True)
        ]
        return self._learner.update(weighted, self._terms, denominator, rate)


def minibatches(views: Sequence[Views], count: int, seed: int) -> list[list[Views]]:
    """Shuffle trajectories and share them out evenly over `count` minibatches, none of them empty."""
    shuffled = list(views)
    random.Random(seed).shuffle(shuffled)
    count = min(count, len(shuffled))
    return [shuffled[index::count] for index in range(count)]


def _merge(updates: Sequence[Update]) -> dict[str, float]:
    """Average the statistics over a step's updates, and add their tokens up.

    The gap between engine and learner is that of the first update: later ones have moved away on
    purpose.
    """
    first = updates[0].statistics
    sums = {name: sum(update.statistics[name] for update in updates) for name in first}
    merged = {name: total / len(updates) for name, total in sums.items()}
    merged |= {name: first[name] for name in first if name.startswith("logprob_gap")}
    loss = sum(update.loss for update in updates) / len(updates)
    return {"loss": loss, **merged, "packed_tokens": sums["packed_tokens"]}
