"""The policy objective: a clipped surrogate along the trajectory, and a KL penalty.

With ratio rho = exp(log pi - log pi_old) of a target given its view,

    surrogate = min(rho A, clip(rho, 1 - low, 1 + high) A)
    dual clip = max(surrogate, c A)                          where A < 0
    weight    = min(exp(log pi_old - log pi_behavior), cap)
    k1        = delta,   k3 = exp(-delta) - 1 + delta,   delta = log pi - log pi_anchor

(PPO, arXiv 1707.06347; dual clip, arXiv 1912.09729; truncated importance, arXiv 1802.01561; k1 and k3
are Schulman's estimators of KL(pi || pi_anchor), unbiased where the tokens were drawn from pi;
TraceRL, arXiv 2509.06949, equation 4). The anchor is the policy that starts the step, or a frozen
reference. Everything is per target; `objectives/reduce.py` says how targets are averaged.
"""

from typing import Literal

import torch
from torch import Tensor


def keep_near(logprobs: Tensor, anchor_logprobs: Tensor, limit: float) -> Tensor:
    """Return log-probabilities `(S,)` that are at most `limit` from an anchor's, without gradient beyond.

    Args:
        logprobs: `(S,)` of the targets under the policy being trained.
        anchor_logprobs: `(S,)` of what they are measured from.
        limit: most nats between the two, so that no exponential of their difference overflows.
    """
    return logprobs.clamp(anchor_logprobs - limit, anchor_logprobs + limit)


def clipped_surrogate(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> Tensor:
    """Return the surrogate `(S,)` to be maximised.

    Args:
        logprobs: `(S,)` of the targets under the policy being trained.
        old_logprobs: `(S,)` under the policy that starts the step.
        advantages: `(S,)`.
        clip_low: the ratio counts no lower than `1 - clip_low`.
        clip_high: the ratio counts no higher than `1 + clip_high`.
        dual_clip: `c > 1`; where the advantage is negative the surrogate is no lower than `c A`, so
            that one token that became far likelier cannot outweigh the batch.
    """
    ratio = (logprobs - old_logprobs).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    surrogate = torch.minimum(ratio * advantages, clipped * advantages)
    if dual_clip is None:
        return surrogate
    floor = torch.maximum(surrogate, dual_clip * advantages)
    return torch.where(advantages < 0, floor, surrogate)


def is_clipped(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """Return `(S,)` bool: the targets whose surrogate has no gradient because it is clipped."""
    ratio = (logprobs - old_logprobs).exp()
    too_high = (advantages > 0) & (ratio > 1 + clip_high)
    return too_high | ((advantages < 0) & (ratio < 1 - clip_low))


def is_dual_clipped(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, dual_clip: float
) -> Tensor:
    """Return `(S,)` bool: the targets whose surrogate has no gradient because of the dual clip."""
    return (advantages < 0) & ((logprobs - old_logprobs).exp() > dual_clip)


def truncated_importance(
    old_logprobs: Tensor, behavior_logprobs: Tensor, max_importance: float
) -> Tensor:
    """Return the weight `(S,)` that makes tokens of one policy count as another's, without gradient.

    Args:
        old_logprobs: `(S,)` under the policy that starts the step, as the learner computes it.
        behavior_logprobs: `(S,)` under the one that wrote the tokens, as the engine computed it.
        max_importance: what no weight exceeds; bounds the variance at the price of some bias.
    """
    return (old_logprobs - behavior_logprobs).detach().exp().clamp(max=max_importance)


def kl_penalty(
    logprobs: Tensor, anchor_logprobs: Tensor, estimator: Literal["k1", "k3"] = "k3"
) -> Tensor:
    """Return an estimate `(S,)` of KL(pi || pi_anchor), unbiased where the tokens were drawn from pi.

    `k1` may be negative, and as a penalty its gradient vanishes on average; `k3` never is, and pulls
    back to the anchor.

    Args:
        logprobs: `(S,)` of the targets under the policy being trained.
        anchor_logprobs: `(S,)` under the policy it is held to.
        estimator: see above.
    """
    delta = logprobs - anchor_logprobs
    match estimator:
        case "k1":
            return delta
        case "k3":
            return (-delta).exp() - 1 + delta
