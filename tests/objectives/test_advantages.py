"""Group advantages: mean 0, unit spread, and nothing where there is nothing to learn."""

import math
from statistics import fmean, pstdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.objectives.advantages import (
    advantages_of_rewards,
    group_advantages,
    progress_advantages,
    softmax_advantages,
)

# Multiples of 1/8 are exact in binary: rewards that look equal are equal.
REWARDS = st.lists(st.integers(-80, 80).map(lambda n: n / 8), min_size=2, max_size=12)


@given(REWARDS.filter(lambda rewards: len(set(rewards)) > 1))
def test_group_std_gives_mean_0_and_population_std_1(rewards: list[float]) -> None:
    advantages = group_advantages(rewards, "group_std")
    assert fmean(advantages) == pytest.approx(0, abs=1e-12)
    assert pstdev(advantages) == pytest.approx(1)


@given(REWARDS)
def test_group_subtracts_the_mean_and_nothing_else(rewards: list[float]) -> None:
    assert group_advantages(rewards, "group") == pytest.approx(
        [r - fmean(rewards) for r in rewards]
    )


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1])
def test_a_uniform_group_gets_exact_zeros(reward: float) -> None:
    assert group_advantages([reward] * 3, "group_std") == [0.0] * 3
    assert group_advantages([reward] * 3, "group") == [0.0] * 3


def test_a_difference_of_rounding_is_no_signal() -> None:
    assert group_advantages([0.1 + 0.2, 0.3, 0.3], "group_std") == [0.0] * 3
    assert group_advantages([0.3 + 1e-6, 0.3, 0.3], "group_std")[0] == pytest.approx(2**0.5)


def test_one_right_answer_in_four_earns_the_root_of_three() -> None:
    assert group_advantages([1, 0, 0, 0], "group_std") == pytest.approx([3**0.5] + [-(3**-0.5)] * 3)


@given(REWARDS)
def test_leave_one_out_compares_with_the_mean_of_the_others(rewards: list[float]) -> None:
    expected = [r - fmean([*rewards[:n], *rewards[n + 1 :]]) for n, r in enumerate(rewards)]
    assert group_advantages(rewards, "leave_one_out") == pytest.approx(expected, abs=1e-12)


@given(st.lists(REWARDS, min_size=1, max_size=4))
def test_global_is_over_the_whole_step_and_keeps_the_groups(groups: list[list[float]]) -> None:
    found = advantages_of_rewards(groups, "global")
    assert [len(group) for group in found] == [len(group) for group in groups]
    flat = [r for group in groups for r in group]
    spread = pstdev(flat)
    expected = [(r - fmean(flat)) / spread if spread else 0.0 for r in flat]
    assert [a for group in found for a in group] == pytest.approx(expected)


@pytest.mark.parametrize("baseline", ["group_std", "group", "leave_one_out"])
def test_every_other_baseline_is_group_by_group(baseline: Any) -> None:
    groups = [[1.0, 0.0, 0.5], [3.0, 3.0], [0.0, 1.0]]
    expected = [group_advantages(group, baseline) for group in groups]
    assert advantages_of_rewards(groups, baseline) == expected


@pytest.mark.parametrize("baseline", ["group_std", "group", "leave_one_out", "global", "none"])
def test_no_groups_have_no_advantages(baseline: Any) -> None:
    assert advantages_of_rewards([], baseline) == []


def test_without_a_baseline_an_advantage_is_the_reward() -> None:
    assert advantages_of_rewards([[1.0, 0.5], [2.0]], "none") == [[1.0, 0.5], [2.0]]


@given(REWARDS, st.floats(0.1, 3))
def test_softmax_is_the_difference_of_two_softmaxes_times_the_size_of_the_group(
    rewards: list[float], psi: float
) -> None:
    mean = fmean(rewards)
    gains, losses = ([math.exp(sign * psi * (r - mean)) for r in rewards] for sign in (1, -1))
    pairs = zip(gains, losses, strict=True)
    expected = [len(rewards) * (g / sum(gains) - b / sum(losses)) for g, b in pairs]
    assert softmax_advantages(rewards, psi) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert advantages_of_rewards([rewards], "softmax", psi) == [softmax_advantages(rewards, psi)]


def test_softmax_is_0_of_a_uniform_group_and_does_not_overflow() -> None:
    assert softmax_advantages([0.1] * 3, 1.0) == [0.0] * 3
    assert softmax_advantages([0.0, 1e6], 1.0) == [-2.0, 2.0]


def test_progress_is_the_gain_of_a_draft_and_the_mean_of_later_ones_over_those_of_its_number() -> (
    None
):
    """Three responses with three drafts each, by hand."""
    rewards = [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    first = [0 + (1 + 1) / 2, 1 + (0 + 0) / 2, 0 + (0 + 1) / 2]
    second = [1 + 1, -1 + 0, 0 + 1]
    third = [0 + 1, 0 + 0, 1 + 1]
    columns = [
        [(s - fmean(column)) / pstdev(column) for s in column] for column in (first, second, third)
    ]
    expected = [columns[m][g] for g in range(3) for m in range(3)]
    flat = [reward for own in rewards for reward in own]
    assert progress_advantages(flat, 3) == pytest.approx(expected)
    assert advantages_of_rewards([flat], "progress", drafts=3) == [progress_advantages(flat, 3)]


def test_progress_of_equal_drafts_is_0() -> None:
    assert progress_advantages([0.5] * 6, 2) == [0.0] * 6
