"""Paired tests: whether one of two models is better on the same problems, beyond chance.

Pairing removes the variance between problems, which makes up most of an accuracy's interval: two
intervals may overlap while every changed verdict has the same direction.

One response per problem: McNemar's exact test, a fair coin over the problems that only one of them solved
(Quinn McNemar, Psychometrika 12, 1947). Several: a permutation test that flips the sign of each problem's
difference, all flips where they are few.
"""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

# 2**12 flips are enumerated, more are drawn.
MAX_EXACT = 12
NUM_DRAWS = 10_000


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided exact p-value of two models on problems with one answer each.

    Args:
        only_first: problems the first solved and the second did not.
        only_second: the other way round.
    """
    count = only_first + only_second
    tail = sum(math.comb(count, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**count)


def permutation_test(differences: Sequence[float], seed: int = 0) -> float:
    """Return the two-sided p-value of a mean difference, under random signs of the differences.

    Args:
        differences: of each problem.
        seed: of the drawn flips, where there are too many.
    """
    values = np.array([d for d in differences if d], dtype=np.float64)
    # Equal sums of thirds and fifths differ in their last bits and must count as equal.
    observed = abs(values.sum()) * (1 - 1e-12)
    if len(values) <= MAX_EXACT:
        flips = np.array(list(product((1, -1), repeat=len(values))))
        return float((abs(flips @ values) >= observed).mean())
    generator = np.random.default_rng(seed)
    hits = 0
    for _ in range(NUM_DRAWS):
        hits += abs(generator.choice((-1.0, 1.0), len(values)) @ values) >= observed
    # The observed signs count as one of the flips, so no p-value is 0.
    return (int(hits) + 1) / (NUM_DRAWS + 1)
