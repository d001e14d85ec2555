"""Objectives as the learner takes them: scores and a pack in, per-target terms out.

The branches of a method are chosen here, once, when its objective is built; the learner's loop has
none.
"""

from typing import Protocol

import torch
from torch import Tensor

from unmask.configs.objective import ObjectiveConfig
from unmask.diffusion.layout import Pack
from unmask.models.heads import Scores
from unmask.objectives.likelihood import negative_log_likelihood
from unmask.objectives.policy import (
    clipped_surrogate,
    is_clipped,
    is_dual_clipped,
    kl_penalty,
    truncated_importance,
)
from unmask.trainers.learner import Terms
from unmask.trainers.masters import is_wide
from unmask.trainers.scorer import RowTable


def supervised_terms(scores: Scores, pack: Pack) -> Terms:
    """Return the terms of SFT."""
    nll = negative_log_likelihood(scores.logprobs)
    return Terms(nll, {"nll": nll, "entropy": scores.entropy})


class PolicyObjective(Protocol):
    """The objective of RL; `reference` holds a frozen model's log-probabilities, if there is one."""

    def __call__(self, scores: Scores, pack: Pack, reference: RowTable | None = None) -> Terms:
        """Return the terms of a pack's targets."""
        ...


def build_policy_terms(config: ObjectiveConfig, is_single_update: bool) -> PolicyObjective:
    """Return the objective of RL.

    Args:
        config: clip range, importance weight and KL.
        is_single_update: the step's batch is used for one optimizer step, so the policy that starts
            the step is the one being differentiated, and its own log-probabilities, detached, are
            the old ones.
    """
    clip = (config.clip_low, config.clip_high)

    def terms(scores: Scores, pack: Pack, reference: RowTable | None = None) -> Terms:
        logprobs = scores.logprobs
        old = logprobs.detach() if is_single_update else pack.old_logprobs.to(logprobs.dtype)
        advantages = pack.advantages.to(logprobs.dtype)
        gain = clipped_surrogate(logprobs, old, advantages, *clip, config.dual_clip)
        ratio = (logprobs - old).exp()
        anchor = old if reference is None else reference.read(pack.origin).to(old)
        kl = kl_penalty(logprobs, anchor, config.kl_estimator)
        means = {
            "ratio": ratio,
            "clipped": is_clipped(logprobs, old, advantages, *clip),
            "kl": kl,
            "entropy": scores.entropy,
        }
        maxima = {"ratio_max": ratio}
        if config.dual_clip is not None:
            means["dual_clipped"] = is_dual_clipped(logprobs, old, advantages, config.dual_clip)
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
