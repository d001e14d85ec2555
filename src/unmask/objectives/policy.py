"""The policy objective: a clipped surrogate along the trajectory, and a KL penalty.

With ratio rho = exp(log pi - log pi_old) of a target given its view,

    surrogate = min(rho A, clip(rho, 1 - low, 1 + high) A)
    k3        = exp(-delta) - 1 + delta,   delta = log pi - log pi_old

(PPO, arXiv 1707.06347; k3 is Schulman's non-negative estimator of KL(pi || pi_old); TraceRL,
arXiv 2509.06949, equation 4). Everything is per target; `objectives/reduce.py` says how targets are
averaged.
"""

import torch
from torch import Tensor


def clipped_surrogate(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """Return the surrogate `(S,)` to be maximised.

    Args:
        logprobs: `(S,)` of the targets under the policy being trained.
        old_logprobs: `(S,)` under the policy that starts the step.
        advantages: `(S,)`.
        clip_low: the ratio counts no lower than `1 - clip_low`.
        clip_high: the ratio counts no higher than `1 + clip_high`.
    """
    ratio = (logprobs - old_logprobs).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return torch.minimum(ratio * advantages, clipped * advantages)


def is_clipped(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """Return `(S,)` bool: the targets whose surrogate has no gradient because it is clipped."""
    ratio = (logprobs - old_logprobs).exp()
    too_high = (advantages > 0) & (ratio > 1 + clip_high)
    return too_high | ((advantages < 0) & (ratio < 1 - clip_low))


def kl_k3(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    """Return the k3 estimate `(S,)` of KL(pi || pi_old); unbiased where the tokens were drawn from pi."""
    delta = logprobs - old_logprobs
    return (-delta).exp() - 1 + delta
