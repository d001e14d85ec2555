"""Estimates and intervals against published values and brute force."""

import random

import pytest

from unmask.evaluation.metrics import mean_interval, ratio_interval, wilson_interval


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [
        # Newcombe 1998, table I, method 3 (the score interval without continuity correction)
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_values(
    successes: int, count: int, low: float, high: float
) -> None:
    assert wilson_interval(successes, count) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(count - successes, count)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_stays_in_the_unit_interval_and_has_width_at_its_ends() -> None:
    assert wilson_interval(0, 5)[0] == 0 < wilson_interval(0, 5)[1]
    assert wilson_interval(5, 5)[0] < 1 == wilson_interval(5, 5)[1]


def test_bootstrap_intervals_contain_the_truth_about_as_often_as_they_say() -> None:
    generator = random.Random(1)
    hits = 0
    for _ in range(100):
        steps = [generator.randint(1, 4) for _ in range(60)]
        tokens = [step * generator.choice([1, 2, 3]) for step in steps]  # 2 tokens per step
        low, high = ratio_interval(tokens, steps, resamples=200)
        hits += low <= 2 <= high
    assert 86 <= hits <= 100


def test_the_same_data_give_the_same_interval() -> None:
    values = [0.0, 0.5, 1.0, 0.25]
    assert mean_interval(values) == mean_interval(values)
    low, high = mean_interval(values)
    assert min(values) <= low < sum(values) / 4 < high <= max(values)
