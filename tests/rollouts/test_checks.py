"""Trajectories and rewards that cannot be trained on are refused by name."""

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from tests.rollouts.toy_groups import group
from unmask.rollouts.checks import check_scores, check_trajectory
from unmask.types import Revision, Reward, Score

(TRAJECTORY,) = group([1.0], uid=42).trajectories


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step_map": (1, 2, 2, 2)}, "step_map has 4 entries for 5 canvas positions"),
        (
            {"step_map": (1, 0, 2, 2, 0)},
            "disagrees with the response: no step revealed token 1 of 4",
        ),
        ({"step_map": (1, 2, 2, 2, -1)}, "step_map has the negative step -1"),
        ({"policy_versions": (1, 1)}, "policy_versions has 2 entries for 5 canvas positions"),
        ({"num_response": 0}, "a response of 0 tokens in 5 positions"),
        ({"num_response": 6}, "a response of 6 tokens in 5 positions"),
        ({"num_response": 5}, "no step revealed token 4 of 5"),
        ({"behavior_logprobs": (0.0,)}, "behavior_logprobs has 1 entries for 5 canvas positions"),
        ({"behavior_logprobs": (0.0, -inf, 0.0, 0.0, 0.0)}, "behavior_logprobs are not finite"),
        ({"revisions": (Revision(1, 0, 5, nan, "write"),)}, "behavior_logprobs are not finite"),
        ({"revisions": (Revision(1, 5, 5, 0.0, "write"),)}, "revisions hold a position outside"),
        ({"revisions": (Revision(3, 0, 5, 0.0, "write"),)}, "num_steps = 2, and step 3 wrote a to"),
    ],
)
def test_a_trajectory_whose_parts_disagree_is_refused(changes: Any, said: str) -> None:
    check_trajectory(TRAJECTORY)
    with pytest.raises(ValueError, match=f"the trajectory of prompt 42 of task 'toy': .*{said}"):
        check_trajectory(replace(TRAJECTORY, **changes))


def test_no_step_writes_a_pinned_token() -> None:
    sampling = replace(TRAJECTORY.sampling, pinned=((1, 5),))
    check_trajectory(replace(TRAJECTORY, sampling=sampling, step_map=(1, 0, 2, 2, 0)))
    with pytest.raises(ValueError, match="no step revealed token 2 of"):
        check_trajectory(replace(TRAJECTORY, sampling=sampling, step_map=(1, 0, 0, 2, 0)))


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        (nan, "is nan: a reward must be finite"),
        (-inf, "is -inf: a reward must be finite"),
        ((0.0, nan, 0.0, 0.0), "is nan: a reward must be finite"),
        ((0.0, 1.0), "has 2 numbers for 4 response tokens"),
        ((), "has 0 numbers for 4 response tokens"),
    ],
)
def test_a_reward_that_cannot_stand_on_its_response_is_refused(reward: Reward, said: str) -> None:
    whose = "the reward of a response to prompt 42 of task 'toy'"
    with pytest.raises(ValueError, match=f"{whose} {said}"):
        check_scores([Score(1.0), Score(reward)], [TRAJECTORY] * 2)


def test_rewards_are_one_each() -> None:
    check_scores([Score(1.0), Score((0.0,) * 4)], [TRAJECTORY] * 2)
    with pytest.raises(ValueError, match="task 'toy' returned 1 rewards for 2 responses"):
        check_scores([Score(1.0)], [TRAJECTORY] * 2)
