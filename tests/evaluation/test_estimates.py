"""Estimates and intervals against published values and brute force."""

import itertools
import random

import pytest

from unmask.evaluation.estimates import (
    majority_at,
    mean_interval,
    pass_at,
    ratio_interval,
    share_interval,
    sizes_up_to,
    wilson_interval,
)


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
    for count in (5, 110, 200):
        assert wilson_interval(0, count)[0] == 0 < wilson_interval(0, count)[1]
        assert wilson_interval(count, count)[0] < 1 == wilson_interval(count, count)[1]


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


def test_the_interval_of_differences_contains_their_mean() -> None:
    low, high = mean_interval([0.5, -0.25, 0.0, 1.0, 0.25])
    assert low < 0.3 < high


def test_a_bootstrap_never_divides_by_zero() -> None:
    low, high = ratio_interval([0, 0, 0, 6], [0, 0, 0, 2])
    assert low == high == 3


@pytest.mark.parametrize("num_right", range(6))
@pytest.mark.parametrize("k", [1, 2, 5])
def test_pass_at_k_is_the_mean_over_all_subsets(k: int, num_right: int) -> None:
    right = [place < num_right for place in range(5)]
    subsets = list(itertools.combinations(right, k))
    assert pass_at(k, num_right, 5) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_the_most_frequent_answer_wins_and_ties_are_shared() -> None:
    assert majority_at(3, ["7", "7", "8"], [True, True, False]) == 1.0
    assert majority_at(3, ["7", "8", "8"], [True, False, False]) == 0.0
    assert majority_at(3, ["7", "8", "9"], [True, False, False]) == pytest.approx(1 / 3)
    assert majority_at(4, list("aabb"), [True, True, False, False]) == 0.5
    # Of the three pairs one agrees on 7, two are split.
    assert majority_at(2, ["7", "7", "8"], [True, True, False]) == pytest.approx(2 / 3)


def test_with_too_many_subsets_some_are_drawn_the_same_ones_each_time() -> None:
    answers, right = ["7"] * 12 + ["8"] * 8, [True] * 12 + [False] * 8
    drawn = majority_at(11, answers, right)
    assert 0.6 < drawn < 0.99
    assert drawn == majority_at(11, answers, right)


@pytest.mark.parametrize(
    ("samples", "sizes"), [(1, []), (2, [2]), (3, [2, 3]), (8, [2, 4, 8]), (10, [2, 4, 8, 10])]
)
def test_sizes_double_up_to_all_samples(samples: int, sizes: list[int]) -> None:
    assert sizes_up_to(samples) == sizes


def test_a_share_of_all_or_nothing_has_the_interval_of_single_trials() -> None:
    assert share_interval([0.0] * 30) == wilson_interval(0, 30)
    assert share_interval([1.0] * 30) == wilson_interval(30, 30)
    assert share_interval([0.0, 0.5, 1.0]) == mean_interval([0.0, 0.5, 1.0])
    assert share_interval([0.5] * 3) == (0.5, 0.5)
