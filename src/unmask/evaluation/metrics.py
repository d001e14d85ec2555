"""What an evaluation reports: estimates, and how far to trust them.

Shares come with Wilson intervals, which stay inside [0, 1] and do not collapse at 0 or 1. Ratios of
sums come with percentile bootstrap intervals over problems, because answers to one problem are not
independent.
"""

import math
import random
from collections.abc import Sequence

Interval = tuple[float, float]

Z95 = 1.959963984540054


def wilson_interval(successes: float, count: int) -> Interval:
    """Return the 95 % Wilson interval of a share of `successes` in `count` trials."""
    share = successes / count
    center = share + Z95**2 / (2 * count)
    spread = Z95 * math.sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2))
    scale = 1 + Z95**2 / count
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], resamples: int = 1000, seed: int = 0
) -> Interval:
    """Return the 95 % bootstrap interval of `sum(numerators) / sum(denominators)` over problems."""
    generator = random.Random(seed)
    pairs = list(zip(numerators, denominators, strict=True))
    ratios: list[float] = []
    for _ in range(resamples):
        drawn = generator.choices(pairs, k=len(pairs))
        ratios.append(sum(a for a, _ in drawn) / sum(b for _, b in drawn))
    ratios.sort()
    return ratios[round(0.025 * (resamples - 1))], ratios[round(0.975 * (resamples - 1))]


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the 95 % bootstrap interval of the mean over problems."""
    return ratio_interval(values, [1.0] * len(values))
