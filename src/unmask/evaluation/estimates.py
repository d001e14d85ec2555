"""The estimates that an evaluation reports, with their 95 % intervals.

Shares come with Wilson intervals, which stay inside [0, 1] and do not collapse at 0 or 1. Everything
else comes with percentile bootstrap intervals over problems, because answers to one problem are not
independent.

`pass@k` and `maj@k` are estimates of what k answers would have come to, made from all n that are
there: the mean over the subsets of k. For pass@k that mean has a closed form, 1 - C(n - c, k) / C(n, k)
with c right answers (Chen et al., arXiv 2107.03374).
"""

import math
import random
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import combinations

import numpy as np

Interval = tuple[float, float]

Z95 = 1.959963984540054
# Beyond so many subsets, as many are drawn.
MAX_SUBSETS = 200


def wilson_interval(successes: float, count: int) -> Interval:
    """Return the 95 % Wilson interval of a share of `successes` in `count` trials."""
    share = successes / count
    center = share + Z95**2 / (2 * count)
    spread = Z95 * math.sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2))
    scale = 1 + Z95**2 / count
    # The ends are exact where nothing succeeded or failed; the formula would round.
    low = (center - spread) / scale if successes else 0.0
    high = (center + spread) / scale if successes < count else 1.0
    return low, high


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], resamples: int = 1000, seed: int = 0
) -> Interval:
    """Return the 95 % bootstrap interval of `sum(numerators) / sum(denominators)` over problems.

    Problems are drawn until some denominator is not 0; one of all must be.
    """
    generator = np.random.default_rng(seed)
    pairs = np.array([numerators, denominators], dtype=np.float64)
    assert pairs[1].any(), "nothing to divide by"
    ratios: list[float] = []
    while len(ratios) < resamples:
        above, below = pairs[:, generator.integers(pairs.shape[1], size=pairs.shape[1])].sum(1)
        if below:
            ratios.append(float(above / below))
    ratios.sort()
    return ratios[round(0.025 * (resamples - 1))], ratios[round(0.975 * (resamples - 1))]


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the 95 % bootstrap interval of the mean over problems."""
    return ratio_interval(values, [1.0] * len(values))


def share_interval(shares: Sequence[float]) -> Interval:
    """Return the 95 % interval of the mean share over problems.

    Bootstrap; but where every problem has the same share, 0 or 1, no resample differs: then it is
    Wilson's of as many single trials.
    """
    if set(shares) in ({0.0}, {1.0}):
        return wilson_interval(sum(shares), len(shares))
    return mean_interval(shares)


def sizes_up_to(samples: int) -> list[int]:
    """Return the k of pass@k and maj@k: 2, 4, 8, ... and all samples; k = 1 is the accuracy."""
    doubled = [2**power for power in range(1, samples.bit_length())]
    return sorted({*(k for k in doubled if k <= samples), samples} - {1})


def pass_at(k: int, num_right: int, samples: int) -> float:
    """Return the chance that one of k of the samples is right."""
    return 1 - math.comb(samples - num_right, k) / math.comb(samples, k)


def majority_at(k: int, answers: Sequence[str], is_right: Sequence[bool]) -> float:
    """Return the chance that the most frequent answer among k of the samples is right.

    Args:
        k: how many vote.
        answers: of all samples, as extracted; equal texts are one answer. Among equally frequent
            ones any is taken, so each counts with its share.
        is_right: the verdict of each.
    """
    votes = [
        _majority([answers[i] for i in voters], [is_right[i] for i in voters])
        for voters in _subsets(k, len(answers))
    ]
    return sum(votes) / len(votes)


def _majority(answers: Sequence[str], is_right: Sequence[bool]) -> float:
    counts = Counter(answers)
    most = max(counts.values())
    # The members of the winning answers: each answer has `most` of them, so their mean is fair.
    right = [ok for answer, ok in zip(answers, is_right, strict=True) if counts[answer] == most]
    return sum(right) / len(right)


@cache
def _subsets(k: int, count: int) -> list[tuple[int, ...]]:
    if math.comb(count, k) <= MAX_SUBSETS:
        return list(combinations(range(count), k))
    generator = random.Random(k)
    return [tuple(generator.sample(range(count), k)) for _ in range(MAX_SUBSETS)]
