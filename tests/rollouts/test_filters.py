"""Which groups are trained on."""

from dataclasses import replace

import pytest

from tests.rollouts.toy_groups import group
from unmask.configs.rollout import FilterConfig
from unmask.rollouts.filters import is_kept
from unmask.runs.trajectories import total_reward
from unmask.types import Reward


def test_a_reward_per_token_counts_as_what_its_steps_earned() -> None:
    assert total_reward(0.5, (1, 2, 2)) == 0.5
    assert total_reward((0.5, 0.25, -1.0), (1, 2, 2)) == 0.5 - 0.375


@pytest.mark.parametrize(
    "rewards", [(0.0, 0.0), (1.0, 1.0), (0.5, 0.5), ((0.5, 0.0), (0.25, 0.25))]
)
def test_uniform_groups_are_dropped_by_default(
    rewards: tuple[Reward, ...],
) -> None:
    assert not is_kept(group(rewards), FilterConfig())
    assert is_kept(group(rewards), FilterConfig(drop_uniform=False))


@pytest.mark.parametrize(
    ("rewards", "kept"),
    [((0, 0, 0, 1), True), ((0, 0, 1, 1), True), ((0, 1, 1, 1), False), ((0, 0.25, 0, 0), False)],
)
def test_the_bounds_on_the_mean_belong_to_what_is_kept(
    rewards: tuple[Reward, ...], kept: bool
) -> None:
    assert is_kept(group(rewards), FilterConfig(low=0.25, high=0.5)) == kept


def test_a_group_that_could_not_be_graded_is_never_trained_on() -> None:
    judged = group((0.0, 1.0))
    config = FilterConfig(drop_uniform=False)
    assert is_kept(replace(judged, parts={"unfit": (0.0, 0.0)}), config)
    assert not is_kept(replace(judged, parts={"unfit": (0.0, 1.0)}), config)


def test_without_bounds_a_mean_may_be_anything() -> None:
    assert is_kept(group((-3.0, 7.5, 40.0)), FilterConfig())


def test_groups_of_long_answers_are_dropped() -> None:
    judged = group((0.0, 1.0), [(4, 2), (8, 2)])
    kept = [is_kept(judged, FilterConfig(max_mean_tokens=most)) for most in (5.9, 6, 7)]
    assert kept == [False, True, True]
