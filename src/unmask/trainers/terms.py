"""Objectives as the learner takes them: scores and a pack in, per-target terms out.

The branches of a method are chosen here, once, when its objective is built; the learner's loop has
none.
"""

import torch
from torch import Tensor

from unmask.configs.objective import ObjectiveConfig
from unmask.diffusion.layout import Pack
from unmask.models.heads import Scores
from unmask.objectives.likelihood import negative_log_likelihood
from unmask.objectives.policy import clipped_surrogate, is_clipped, kl_k3
from unmask.trainers.learner import Objective, Terms
from unmask.trainers.masters import is_wide


def supervised_terms(scores: Scores, pack: Pack) -> Terms:
    """Return the terms of SFT."""
    nll = negative_log_likelihood(scores.logprobs)
    return Terms(nll, {"nll": nll, "entropy": scores.entropy})


def build_policy_terms(config: ObjectiveConfig, is_single_update: bool) -> Objective:
    """Return the objective of TraceRL.

    Args:
        config: clip range and KL weight.
        is_single_update: the step's batch is used for one optimizer step, so the policy that starts
            the step is the one being differentiated, and its own log-probabilities, detached, are
            the old ones.
    """
    clip = (config.clip_low, config.clip_high)
    # Merged views are not those the engine sampled from: their gap would say nothing.
    has_engine_views = config.shrink == 1

    def terms(scores: Scores, pack: Pack) -> Terms:
        logprobs = scores.logprobs
        old = logprobs.detach() if is_single_update else pack.old_logprobs.to(logprobs.dtype)
        gain = clipped_surrogate(logprobs, old, pack.advantages, *clip)
        kl = kl_k3(logprobs, old)
        gap = {"logprob_gap": _gap(logprobs, pack)} if has_engine_views else {}
        means = {
            "ratio": (logprobs - old).exp(),
            "clipped": is_clipped(logprobs, old, pack.advantages, *clip),
            "kl": kl,
            "entropy": scores.entropy,
        }
        maxima = {f"{name}_max": values for name, values in gap.items()}
        # Not 0 * kl: far from the old policy k3 overflows, and 0 * inf is no number.
        loss = config.kl * kl - gain if config.kl else -gain
        return Terms(loss, means | gap, maxima)

    return terms


def _gap(logprobs: Tensor, pack: Pack) -> Tensor:
    """Return how far the learner is from the engine's log-probabilities."""
    return (logprobs.detach().double() - pack.behavior_logprobs).abs()


def needs_rescoring(config: ObjectiveConfig, is_single_update: bool, dtype: torch.dtype) -> bool:
    """Say whether the learner must score the old policy itself.

    The engine's log-probabilities serve as the old ones if its views are the learner's and both
    compute alike; in a narrow number format their rounding differs.
    """
    is_exact = is_wide(dtype) and config.shrink == 1
    return not is_single_update and not is_exact
