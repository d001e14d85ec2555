"""Advantages: the reward of a response compared with those of others.

All responses to one prompt are each other's baseline (GRPO, arXiv 2402.03300). Of `G` rewards r with
mean m and population standard deviation s:

    group_std      (r - m) / s                         published for TraceRL
    group          r - m                               (Dr. GRPO, arXiv 2503.20783)
    leave_one_out  r - mean of the others = G / (G - 1) (r - m)      (RLOO, arXiv 2402.14740)
    global         (r - M) / S, mean and standard deviation over all rewards of the step
    none           r
    softmax        G (softmax(psi (r - m)) - softmax(-psi (r - m)))  (wd1, arXiv 2507.08838, equation 9)

    progress       of the m-th draft of a response (MDPO, arXiv 2508.13148), over those of the same number m:
                   (p - mean) / std of p_m = r_m - r_(m-1) + mean of the later ones, of the last one itself

The factor G, which wd1 does not have, makes the size of a softmax advantage, about 2 psi (r - m), that of
the others at any G. Where all that are compared earned the same there is no signal, and the advantages are zero.
"""

import math
from collections.abc import Sequence
from itertools import chain
from statistics import fmean, pstdev
from typing import Literal

from unmask.types import Baseline


def advantages_of_rewards(
    rewards: Sequence[Sequence[float]],
    baseline: Baseline | Literal["softmax", "progress"],
    psi: float = 1.0,
    drafts: int = 1,
) -> list[list[float]]:
    """Return the advantage of every reward of a step, group by group.

    Args:
        rewards: the `G` rewards of each group; groups may differ in size.
        baseline: see above.
        psi: of `softmax`.
        drafts: of each response, whose rewards follow each other in a group, for `progress`.
    """
    if baseline == "none":
        return [list(group) for group in rewards]
    if baseline == "softmax":
        return [softmax_advantages(group, psi) for group in rewards]
    if baseline == "progress":
        return [progress_advantages(group, drafts) for group in rewards]
    if baseline != "global":
        return [group_advantages(group, baseline) for group in rewards]
    together = group_advantages(list(chain.from_iterable(rewards)), "group_std") if rewards else []
    values = iter(together)
    return [[next(values) for _ in group] for group in rewards]


def group_advantages(
    rewards: Sequence[float], baseline: Literal["group_std", "group", "leave_one_out"]
) -> list[float]:
    """Return the advantage of each of `G` rewards over their mean.

    Args:
        rewards: `G` rewards that are compared with each other.
        baseline: see above.
    """
    # Rewards added up in different orders differ in their last bits; dividing by that is noise.
    if math.isclose(min(rewards), max(rewards), rel_tol=1e-9):
        return [0.0] * len(rewards)
    mean = fmean(rewards)
    match baseline:
        case "group_std":
            scale = pstdev(rewards)
        case "group":
            scale = 1.0
        case "leave_one_out":
            scale = (len(rewards) - 1) / len(rewards)
    return [(reward - mean) / scale for reward in rewards]


def softmax_advantages(rewards: Sequence[float], psi: float) -> list[float]:
    """Return `G (softmax(psi A) - softmax(-psi A))` of each of `G` rewards, where A is the reward less their mean.

    Args:
        rewards: `G` rewards that are compared with each other.
        psi: inverse temperature.
    """
    centred = group_advantages(rewards, "group")
    most = max(map(abs, centred))  # subtracted, so that no exponential overflows
    gains = [math.exp(psi * (a - most)) for a in centred]
    losses = [math.exp(psi * (-a - most)) for a in centred]
    share = len(rewards) / sum(gains), len(rewards) / sum(losses)
    return [g * share[0] - b * share[1] for g, b in zip(gains, losses, strict=True)]


def progress_advantages(rewards: Sequence[float], drafts: int) -> list[float]:
    """Return the advantage of each of `G * drafts` rewards, those of a response in the order of its denoising steps.

    Args:
        rewards: of the drafts of `G` responses.
        drafts: `M`, of each response.
    """
    responses = [rewards[start : start + drafts] for start in range(0, len(rewards), drafts)]
    sums = [
        [r - before + fmean(own[m + 1 :] or own[m:]) for m, (before, r) in enumerate(pairs(own))]
        for own in responses
    ]
    by_number = [group_advantages(column, "group_std") for column in zip(*sums, strict=True)]
    return [advantage for row in zip(*by_number, strict=True) for advantage in row]


def pairs(rewards: Sequence[float]) -> list[tuple[float, float]]:
    """Return each reward after the one before it, which is 0 before the first."""
    return list(zip([0.0, *rewards], rewards, strict=False))
