"""Objectives as the learner takes them: scores and a pack in, per-target terms out.

The branches of a method are chosen here, once, when its objective is built; the learner's loop has
none.
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from unmask.configs.objective import ObjectiveConfig
from unmask.configs.value import ValueConfig
from unmask.diffusion.layout import Pack
from unmask.models.heads import Scores
from unmask.models.value_model import ActorCriticScores
from unmask.objectives.likelihood import negative_log_likelihood
from unmask.objectives.policy import (
    clipped_surrogate,
    is_clipped,
    is_dual_clipped,
    kl_penalty,
    probability_ratio,
    truncated_importance,
)
from unmask.objectives.value import clipped_value_loss, is_value_clipped
from unmask.trainers.learner import Terms
from unmask.trainers.master_weights import is_wide
from unmask.trainers.scorer import RowTable


def supervised_terms(scores: Scores, pack: Pack) -> Terms:
    """Return the terms of SFT."""
    nll = negative_log_likelihood(scores.logprobs)
    return Terms(nll, {"nll": nll, "entropy": scores.entropy})


# What was said of a step's targets before its first update, by name: a frozen `reference`'s
# log-probabilities, a critic's `values`, and the `returns` they should have been.
Known = Mapping[str, RowTable]
NOTHING: Known = {}


class KnownObjective(Protocol):
    """An objective that measures from what is known of the targets."""

    def __call__(self, scores: Any, pack: Pack, known: Known = NOTHING) -> Terms:
        """Return the terms of a pack's targets."""
        ...


def build_policy_terms(config: ObjectiveConfig, is_single_update: bool) -> KnownObjective:
    """Return the objective of RL.

    Args:
        config: clip range, importance weight and KL.
        is_single_update: the step's batch is used for one optimizer step, so the policy that starts
            the step is the one being differentiated, and its own log-probabilities, detached, are
            the old ones.
    """
    clip = (config.clip_low, config.clip_high)
    limit = config.max_log_ratio or math.inf

    def terms(scores: Scores | ActorCriticScores, pack: Pack, known: Known = NOTHING) -> Terms:
        logprobs = scores.logprobs
        old = logprobs.detach() if is_single_update else pack.old_logprobs.to(logprobs.dtype)
        advantages = pack.advantages.to(logprobs.dtype)
        ratio = probability_ratio(logprobs, old, limit)
        gain = clipped_surrogate(ratio, advantages, *clip, config.dual_clip)
        anchor = known["reference"].read(pack.origin).to(old) if "reference" in known else old
        kl = kl_penalty(logprobs, anchor, config.kl_estimator, limit)
        means = {
            "ratio": ratio,
            "clipped": is_clipped(ratio, advantages, *clip),
            "kl": kl,
            "entropy": scores.entropy,
        }
        maxima = {"ratio_max": ratio}
        if config.dual_clip is not None:
            means["dual_clipped"] = is_dual_clipped(ratio, advantages, config.dual_clip)
        if config.max_importance is not None:
            behavior = pack.behavior_logprobs.to(old)
            importance = truncated_importance(old, behavior, config.max_importance)
            gain = importance * gain
            means["importance"] = maxima["importance_max"] = importance
        if config.has_engine_views:  # the gap of other views would say nothing
            means["logprob_gap"] = maxima["logprob_gap_max"] = _gap(logprobs, pack)
        # Not 0 * kl: far from the old policy k3 overflows, and 0 * inf is no number.
        loss = config.kl * kl - gain if config.kl else -gain
        return Terms(loss, means, maxima)

    return terms


def build_value_terms(clip: float) -> KnownObjective:
    """Return the critic's objective.

    Args:
        clip: how far a value may move from what it was when the step began.
    """

    def terms(scores: Tensor, pack: Pack, known: Known = NOTHING) -> Terms:
        old, target = (known[name].read(pack.origin).to(scores) for name in ("values", "returns"))
        loss = clipped_value_loss(scores, old, target, clip)
        clipped = is_value_clipped(scores.detach(), old, target, clip)
        return Terms(loss, {"value_mean": scores, "value_clipped": clipped})

    return terms


def build_joint_terms(policy: KnownObjective, value: ValueConfig) -> KnownObjective:
    """Return the objective of a policy and a critic on one backbone: the first, and a share of the second."""
    judge = build_value_terms(value.clip)

    def terms(scores: ActorCriticScores, pack: Pack, known: Known = NOTHING) -> Terms:
        spoken, told = policy(scores, pack, known), judge(scores.values, pack, known)
        loss = spoken.loss + value.weight * told.loss
        means = {**spoken.means, **told.means, "value_loss": told.loss}
        return Terms(loss, means, spoken.maxima)

    return terms


def _gap(logprobs: Tensor, pack: Pack) -> Tensor:
    """Return how far the learner is from the engine's log-probabilities."""
    return (logprobs.detach().double() - pack.behavior_logprobs).abs()


def needs_rescoring(config: ObjectiveConfig, is_single_update: bool, dtype: torch.dtype) -> bool:
    """Say whether the learner must score the old policy itself.

    The engine's log-probabilities serve as the old ones if its views are the learner's and both
    compute alike; in a narrow number format their rounding differs.
    """
    is_exact = is_wide(dtype) and config.has_engine_views
    return not is_single_update and not is_exact
