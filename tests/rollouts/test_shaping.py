"""Reward shaping: what the length of a response costs."""

from dataclasses import replace

import pytest

from tests.rollouts.toy_groups import group
from unmask.configs.rollout import ShapingConfig
from unmask.rollouts.shaping import (
    forfeit_overlong,
    overlong_penalty,
    shaped_rewards,
    shaping_metrics,
)


def test_long_responses_lose_reward() -> None:
    config = ShapingConfig(overlong_penalty=1.0, overlong_tokens=4)
    graded = group([1.0, (0.5, 0.5, *[0.0] * 253), 0.0], [(4, 2), (255, 9), (256, 9)])
    assert shaped_rewards(graded, config) == [1.0, 0.25, -1.0]
    assert shaping_metrics([graded], config) == {
        "overlong_penalty": pytest.approx(1.75 / 3),
        "overlong": pytest.approx(2 / 3),
    }
    off = ShapingConfig()
    assert shaped_rewards(graded, off) == [1.0, 1.0, 0.0]
    assert shaping_metrics([graded], off) == {}


@pytest.mark.parametrize(("within", "forfeit"), [(0, [2]), (5, [1, 2]), (6, [0, 1, 2]), (None, [])])
def test_responses_close_to_the_limit_earn_0(within: int | None, forfeit: list[int]) -> None:
    config = ShapingConfig(forfeit_tokens=within)
    tokens = (0.5, *[0.0] * 249, 0.5)
    graded = group([1.0, tokens, 2.0], [(250, 2), (251, 9), (256, 9)])
    (found,) = forfeit_overlong([graded], config)
    expected = [1.0, tokens, 2.0]
    for place in forfeit:
        expected[place] = (0.0,) * 251 if place == 1 else 0.0
    assert list(found.rewards) == expected
    assert found.trajectories == graded.trajectories
    numbers = {} if within is None else {"forfeited": pytest.approx(len(forfeit) / 3)}
    assert shaping_metrics([found], config) == numbers


def test_the_penalty_grows_over_the_last_tokens() -> None:
    config = ShapingConfig(overlong_penalty=0.5, overlong_tokens=4)
    (trajectory,) = group([1.0], [(9, 2)]).trajectories
    limited = replace(trajectory, sampling=replace(trajectory.sampling, max_tokens=20))
    lengths = (1, 15, 16, 17, 18, 19, 20, 25)
    found = [overlong_penalty(replace(limited, num_response=n), config) for n in lengths]
    assert found == [0, 0, 0, 0.125, 0.25, 0.375, 0.5, 0.5]
