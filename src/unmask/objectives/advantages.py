"""Advantages: what a response earned beyond its siblings.

All answers to one prompt are each other's baseline (GRPO, arXiv 2402.03300). The group's population
standard deviation divides, as published for TraceRL; a group in which all earned the same has no
signal and gets zeros.
"""

import math
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Literal


def group_advantages(
    rewards: Sequence[float], baseline: Literal["group_std", "group"]
) -> list[float]:
    """Return the advantage of each of `G` rewards over their mean.

    Args:
        rewards: `G` rewards of answers to one prompt.
        baseline: `group_std` divides by the population standard deviation, `group` does not.
    """
    # Rewards added up in different orders differ in their last bits; dividing by that is noise.
    if math.isclose(min(rewards), max(rewards), rel_tol=1e-9):
        return [0.0] * len(rewards)
    mean = fmean(rewards)
    scale = pstdev(rewards) if baseline == "group_std" else 1.0
    return [(reward - mean) / scale for reward in rewards]
