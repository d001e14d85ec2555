"""The numbers of a step's rollouts, worked out by hand."""

import pytest

from tests.rollouts.toy_groups import group
from unmask.rollouts.numbers import rollout_numbers


def test_numbers_are_over_all_answers_and_say_how_many_groups_are_trained_on() -> None:
    groups = [
        group([1.0, 0.5], [(4, 2), (6, 3)], parts={"format": [1.0, 0.0]}),
        group([0.0, (0.75, 0.25)], [(8, 1), (2, 2)]),
    ]
    numbers = rollout_numbers(groups, groups[:1], wall_s=4.0)
    assert numbers == {
        "reward": pytest.approx(2.5 / 4),
        "accuracy": 0.5,
        "groups_kept": 0.5,
        "response_tokens": 5.0,
        "truncated": 0.0,
        "tokens_per_denoising_step": 20 / 8,
        "tokens_per_forward": 20 / 36,
        "tokens_per_s": 5.0,
        "reward_format": 0.25,
    }
