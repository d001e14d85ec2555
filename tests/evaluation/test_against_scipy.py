"""Intervals and paired tests against scipy's implementations."""

import random

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, permutation_test

from unmask.evaluation.estimates import mean_interval, ratio_interval, wilson_interval
from unmask.evaluation.paired import mcnemar
from unmask.evaluation.paired import permutation_test as paired_permutation_test


@pytest.mark.parametrize("count", [1, 2, 7, 30, 1319])
def test_wilson_intervals(count: int) -> None:
    for successes in sorted({0, 1, count // 3, count // 2, count - 1, count}):
        expected = binomtest(successes, count).proportion_ci(0.95, method="wilson")
        assert wilson_interval(successes, count) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("counts", [(0, 1), (0, 5), (1, 7), (6, 6), (12, 2), (40, 71), (300, 260)])
def test_mcnemar_is_the_exact_binomial_test(counts: tuple[int, int]) -> None:
    expected = binomtest(min(counts), sum(counts), 0.5).pvalue
    assert mcnemar(*counts) == pytest.approx(expected, rel=1e-9)


def permuted(differences: list[float], resamples: float) -> float:
    """Return scipy's two-sided p-value of a mean difference under flipped signs."""
    pairs = (np.array(differences), np.zeros(len(differences)))
    found = permutation_test(
        pairs,
        lambda a, b, axis: (a - b).mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


@pytest.mark.parametrize("seed", range(8))
def test_few_problems_have_the_exact_permutation_test(seed: int) -> None:
    generator = random.Random(seed)
    differences = [generator.choice((-1.0, -0.5, 0.0, 0.25, 0.5, 1.0)) for _ in range(10)]
    expected = permuted(differences, np.inf)
    assert paired_permutation_test(differences) == pytest.approx(expected, rel=1e-9)


def test_many_problems_have_a_permutation_test_within_its_sampling_error() -> None:
    generator = random.Random(3)
    differences = [generator.choice((-0.5, -0.25, 0.0, 0.25, 0.75)) for _ in range(60)]
    found, expected = paired_permutation_test(differences), permuted(differences, 20_000)
    assert 0.001 < expected < 0.5
    # Five standard deviations of the difference of two sampled shares.
    assert found == pytest.approx(expected, abs=5 * (expected * (1 / 10_000 + 1 / 20_000)) ** 0.5)


def test_bootstrap_intervals_of_a_mean_and_of_a_ratio() -> None:
    generator = random.Random(5)
    steps = [float(generator.randint(1, 6)) for _ in range(200)]
    tokens = [step * generator.uniform(1, 3) for step in steps]
    samples = ((np.array(tokens), np.array(steps)), (np.array(tokens), np.ones(200)))
    found = (ratio_interval(tokens, steps, resamples=9999), mean_interval(tokens))
    for pair, interval in zip(samples, found, strict=True):
        expected = bootstrap(
            pair,
            lambda above, below, axis: above.sum(axis) / below.sum(axis),
            paired=True,
            vectorized=True,
            method="percentile",
            n_resamples=9999,
            rng=np.random.default_rng(1),
        ).confidence_interval
        width = expected.high - expected.low
        assert interval == pytest.approx(expected, abs=0.1 * width)
