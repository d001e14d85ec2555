"""Paired tests against published values, closed forms and brute force."""

import itertools
import random

import pytest

from unmask.evaluation.paired import mcnemar, permutation_test


@pytest.mark.parametrize(
    ("only_first", "only_second", "expected"),
    [
        (0, 0, 1.0),
        (3, 3, 1.0),
        (0, 5, 2 / 32),
        (1, 7, 2 * 9 / 256),
        (12, 2, 0.012939453125),
    ],
)
def test_mcnemar_is_the_binomial_test(only_first: int, only_second: int, expected: float) -> None:
    assert mcnemar(only_first, only_second) == pytest.approx(expected)
    assert mcnemar(only_second, only_first) == mcnemar(only_first, only_second)


def test_few_problems_are_permuted_exactly() -> None:
    differences = [0.25, -0.5, 0.75, 0.0, 0.5, 1.0]
    sums = [
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=6)
    ]
    expected = sum(s >= 2.0 - 1e-9 for s in sums) / len(sums)
    assert permutation_test(differences) == pytest.approx(expected)
    assert permutation_test([0.0] * 4) == 1.0


def test_single_answers_are_judged_as_mcnemar_judges_them() -> None:
    differences = [1.0] * 7 + [-1.0] * 2 + [0.0] * 20
    assert permutation_test(differences) == pytest.approx(mcnemar(2, 7))


def test_many_problems_are_permuted_by_draws_near_the_exact_value() -> None:
    differences = [1.0] * 19 + [-1.0] * 8
    assert permutation_test(differences) == pytest.approx(mcnemar(8, 19), abs=0.01)
    assert permutation_test(differences) == permutation_test(differences)
    assert 0 < permutation_test([1.0] * 60) < 1e-3


def test_small_p_values_are_as_rare_as_stated_where_there_is_no_difference() -> None:
    generator = random.Random(0)
    values = [
        permutation_test([generator.choice((-1, -0.5, 0, 0.5, 1)) for _ in range(10)])
        for _ in range(300)
    ]
    assert sum(p <= 0.1 for p in values) / 300 <= 0.13
