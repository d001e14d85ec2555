"""Objectives as the learner calls them: scores and a pack in, a loss per target out.

The branches of a method are chosen here, once, when its objective is built; the learner's loop has
none. The mathematics is in `objectives/`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from unmask.configs.methods import partner
from unmask.configs.methods.advantage.shared_value import SharedValueAdvantage
from unmask.configs.methods.loss.distilled import DistilledLoss
from unmask.configs.methods.views_loss import ViewsLoss
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.diffusion.layout import Pack
from unmask.diffusion.target_table import TargetTable
from unmask.diffusion.views import Views
from unmask.models.heads import Scores
from unmask.models.value_model import ActorCriticScores
from unmask.objectives.loss import LossOutput, ScoredChoices, ScoredTargets
from unmask.objectives.moves import loss_of_moves
from unmask.objectives.statistics import Statistic
from unmask.objectives.value import clipped_value_loss, is_value_clipped
from unmask.trainers.master_weights import is_wide

LOSSES = "unmask.objectives.methods"

# Tensors of a step's targets that are frozen before its first update, by name: the `reference`'s
# log-probabilities, the value model's `values`, the `returns` they are trained towards, which responses are
# `right`, and a `teacher`'s log-probabilities of several tokens. A loss of whole responses adds its `value` and
# `slope` in each update.
Tables = Mapping[str, TargetTable]
NO_TABLES: Tables = {}


class StepObjective(Protocol):
    """A loss that also reads the tables of its step."""

    def __call__(self, scores: Any, pack: Pack, tables: Tables = NO_TABLES) -> LossOutput:
        """Return the loss of a pack's targets."""
        ...


def build_supervised_objective(config: SFTConfig) -> Callable[[Scores, Pack], LossOutput]:
    """Return the objective of SFT."""
    loss = partner(config.loss, LOSSES).loss

    def objective(scores: Scores, pack: Pack) -> LossOutput:
        # A demonstration has no older policy: all log-probabilities are the model's own.
        own = scores.logprobs.detach()
        targets = ScoredTargets(scores.logprobs, scores.entropy, own, own, own, pack.advantages)
        return loss(targets, config.loss)

    return objective


def build_policy_objective(config: RLConfig) -> StepObjective:
    """Return the objective of RL.

    Where the views are those of the engine, the gap between its log-probabilities and the learner's is a statistic;
    of moves, the largest gap of the tokens that were written.
    """
    if isinstance(config.loss, DistilledLoss):
        return build_distilled_objective(config)
    is_of_views = isinstance(config.loss, ViewsLoss)
    of_loss = linear_objective if is_of_views else build_target_objective(config)
    if not config.records_behavior:  # the engine's are of other views or weights
        return of_loss

    def objective(
        scores: Scores | ActorCriticScores, pack: Pack, tables: Tables = NO_TABLES
    ) -> LossOutput:
        output = of_loss(scores, pack, tables)
        gap = (scores.logprobs.detach().double() - pack.behavior_logprobs).abs()
        if pack.factors is not None:
            gap *= pack.factors.is_written
        gaps = {"logprob_gap_max": Statistic(gap, "max", is_of_first=True)}
        if not config.scores_moves:
            gaps["logprob_gap"] = Statistic(gap, "mean", is_of_first=True)
        return replace(output, statistics={**output.statistics, **gaps})

    return objective


def build_target_objective(config: RLConfig) -> StepObjective:
    """Return the objective of a loss that is a function of one target at a time.

    If the step's batch is used for one optimizer step, the policy that starts the step is the one being
    differentiated, and its own log-probabilities, detached, are the old ones.
    """
    of_one = partial(partner(config.loss, LOSSES).loss, config=config.loss)
    loss = partial(_of_moves if getattr(config.loss, "per_move", False) else _of_targets, of_one)

    def objective(
        scores: Scores | ActorCriticScores, pack: Pack, tables: Tables = NO_TABLES
    ) -> LossOutput:
        logprobs = scores.logprobs
        own = logprobs.detach()
        old = own if config.is_single_update else pack.old_logprobs.to(own.dtype)
        is_anchored = "reference" in tables
        targets = ScoredTargets(
            logprobs=logprobs,
            entropy=scores.entropy,
            old_logprobs=old,
            behavior_logprobs=pack.behavior_logprobs.to(own.dtype),
            reference_logprobs=tables["reference"].read(pack.origin).to(old)
            if is_anchored
            else old,
            advantages=pack.advantages.to(own.dtype),
            right=tables["right"].read(pack.origin).to(own) if "right" in tables else None,
        )
        return loss(targets, pack)

    return objective


def build_distilled_objective(config: RLConfig) -> StepObjective:
    """Return the objective of a loss that reads a teacher's most probable tokens, which the views target too."""
    loss = partner(config.loss, LOSSES).loss

    def objective(scores: Scores, pack: Pack, tables: Tables = NO_TABLES) -> LossOutput:
        teacher, right = (tables[name].read(pack.origin) for name in ("teacher", "right"))
        count, width = teacher.shape
        # The first column is the token that was written. A pack without targets has no columns.
        logprobs = scores.logprobs.reshape(count, 1 + width)[:, 1:]
        targets = ScoredChoices(logprobs, teacher.to(logprobs), scores.entropy, right.to(logprobs))
        return loss(targets, config.loss)

    return objective


def _of_targets(
    loss: Callable[[ScoredTargets], LossOutput], targets: ScoredTargets, pack: Pack
) -> LossOutput:
    return loss(targets)


def _of_moves(
    loss: Callable[[ScoredTargets], LossOutput], targets: ScoredTargets, pack: Pack
) -> LossOutput:
    if pack.factors is None:  # the empty pack of a rank that has no targets left
        return loss(targets)
    return loss_of_moves(loss, targets, pack.factors.move)


def linear_objective(
    scores: Scores | ActorCriticScores, pack: Pack, tables: Tables = NO_TABLES
) -> LossOutput:
    """Return the loss of whole responses near the current weights, from `trainers/views_loss.py`."""
    logprobs = scores.logprobs
    value, slope = (tables[name].read(pack.origin).to(logprobs) for name in ("value", "slope"))
    loss = value + slope * (logprobs - logprobs.detach())
    return LossOutput(loss, {"entropy": Statistic(scores.entropy)})


def build_value_objective(clip: float) -> StepObjective:
    """Return the objective of a value model.

    Args:
        clip: most that a value may move from what it was when the step began.
    """

    def objective(scores: Tensor, pack: Pack, tables: Tables = NO_TABLES) -> LossOutput:
        old, returns = (tables[name].read(pack.origin).to(scores) for name in ("values", "returns"))
        loss = clipped_value_loss(scores, old, returns, clip)
        clipped = is_value_clipped(scores.detach(), old, returns, clip)
        statistics = {"value_mean": Statistic(scores), "value_clipped": Statistic(clipped)}
        return LossOutput(loss, statistics)

    return objective


def build_joint_objective(policy: StepObjective, config: SharedValueAdvantage) -> StepObjective:
    """Return the objective of a policy and a value head on one backbone: `policy + weight * value`."""
    value = build_value_objective(config.clip)

    def objective(scores: ActorCriticScores, pack: Pack, tables: Tables = NO_TABLES) -> LossOutput:
        of_policy, of_value = policy(scores, pack, tables), value(scores.values, pack, tables)
        own = {**of_value.statistics, "value_loss": Statistic(of_value.loss)}
        loss = of_policy.loss + config.weight * of_value.loss
        return LossOutput(loss, {**of_policy.statistics, **own})

    return objective


def needs_rescoring(config: RLConfig, dtype: torch.dtype) -> bool:
    """Return whether the learner must score the old policy itself.

    The engine's log-probabilities serve as the old ones if its weights and views are the learner's and
    both compute alike; in a narrow number format their rounding differs, unless the model is
    batch-invariant.
    """
    is_alike = is_wide(dtype) or config.model.batch_invariant
    return not config.is_single_update and not (is_alike and config.has_old_behavior)


def reweighted(views: Sequence[Views], weights: Sequence[Tensor]) -> list[Views]:
    """Return views with weights multiplied by a factor `(N,)` per view, from `reduction_weights`."""
    return [
        replace(v, weight=v.weight * factor[:, None])
        for v, factor in zip(views, weights, strict=True)
    ]
