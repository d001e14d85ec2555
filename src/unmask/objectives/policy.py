"""The policy objective: a clipped surrogate along the trajectory, and a KL penalty.

With ratio rho = exp(clamp(log pi - log pi_old)) of a target given its view,

    surrogate = min(rho A, clip(rho, 1 - low, 1 + high) A)
    dual clip = max(surrogate, c A)                          where A < 0
    weight    = min(exp(log pi_old - log pi_behavior), cap)
    k1        = delta,   k2 = delta^2 / 2,   k3 = exp(clamp(-delta)) - 1 + delta,   delta = log pi - log pi_anchor

The clamp to [-limit, limit] keeps the exponentials finite and touches nothing else: k1, and the
linear term of k3, keep their value and gradient at any distance, as published for block models
(limit 10). Beyond it k3 has the gradient 1 of that term alone: a pull back from above the anchor, a
push away from below it. Without a limit the pull from below grows with exp(-delta).

(PPO, arXiv 1707.06347; dual clip, arXiv 1912.09729; truncated importance, arXiv 1802.01561; k1, k2 and k3
are Schulman's estimators of KL(pi || pi_anchor), k1 and k3 unbiased where the tokens were drawn from pi;
TraceRL, arXiv 2509.06949, equation 4). The anchor is the policy that starts the step, or a frozen
reference. Everything is per target; `objectives/reduce.py` averages the targets.
"""

import math
from typing import Literal

import torch
from torch import Tensor


def probability_ratio(logprobs: Tensor, anchor_logprobs: Tensor, limit: float = math.inf) -> Tensor:
    """Return the ratio `(S,)` of two probabilities of each target.

    Args:
        logprobs: `(S,)` the logarithm of the numerator.
        anchor_logprobs: `(S,)` the logarithm of the denominator.
        limit: most nats that count between the two; there is no gradient beyond.
    """
    return (logprobs - anchor_logprobs).clamp(-limit, limit).exp()


def clipped_surrogate(
    ratio: Tensor,
    advantages: Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> Tensor:
    """Return the surrogate `(S,)` to be maximised.

    Args:
        ratio: `(S,)` the probability of each target under the policy being trained, over that under
            the policy that starts the step.
        advantages: `(S,)`.
        clip_low: the ratio counts no lower than `1 - clip_low`.
        clip_high: the ratio counts no higher than `1 + clip_high`.
        dual_clip: `c > 1`; where the advantage is negative the surrogate is no lower than `c A`, so
            that one token that became far likelier cannot outweigh the batch.
    """
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    surrogate = torch.minimum(ratio * advantages, clipped * advantages)
    if dual_clip is None:
        return surrogate
    floor = torch.maximum(surrogate, dual_clip * advantages)
    return torch.where(advantages < 0, floor, surrogate)


def is_clipped(ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """Return `(S,)` bool: the targets whose surrogate has no gradient because it is clipped."""
    too_high = (advantages > 0) & (ratio > 1 + clip_high)
    return too_high | ((advantages < 0) & (ratio < 1 - clip_low))


def is_dual_clipped(ratio: Tensor, advantages: Tensor, dual_clip: float) -> Tensor:
    """Return `(S,)` bool: the targets whose surrogate has no gradient because of the dual clip."""
    return (advantages < 0) & (ratio > dual_clip)


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
    logprobs: Tensor,
    anchor_logprobs: Tensor,
    estimator: Literal["k1", "k2", "k3"] = "k3",
    limit: float = math.inf,
) -> Tensor:
    """Return an estimate `(S,)` of KL(pi || pi_anchor), of `k1` and `k3` unbiased for tokens drawn from pi.

    `k1` may be negative, and as a penalty its gradient vanishes on average; `k3` never is, and pulls
    back to the anchor. So does `k2`, whose gradient grows in proportion to the distance and whose mean
    gradient is that of the divergence.

    Args:
        logprobs: `(S,)` of the targets under the policy being trained.
        anchor_logprobs: `(S,)` under the policy it is held to.
        estimator: see above.
        limit: most nats in the exponential of `k3`.
    """
    delta = logprobs - anchor_logprobs
    match estimator:
        case "k1":
            return delta
        case "k2":
            return delta**2 / 2
        case "k3":
            return probability_ratio(anchor_logprobs, logprobs, limit) - 1 + delta
