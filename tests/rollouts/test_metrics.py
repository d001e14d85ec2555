"""Metrics of a step's rollouts, against values worked out by hand."""

import pytest

from tests.rollouts.toy_groups import group
from unmask.rollouts.metrics import rollout_metrics


def test_metrics_cover_all_answers_and_the_share_of_groups_kept() -> None:
    groups = [
        group([1.0, 0.5], [(4, 2), (6, 3)], parts={"format": [1.0, 0.0]}),
        group([0.0, (0.75, 0.25)], [(8, 1), (2, 2)]),
    ]
    metrics = rollout_metrics(groups, groups[:1], wall_s=4.0)
    assert metrics == {
        "reward": pytest.approx(2.5 / 4),
        "accuracy": 0.5,
        "unfit_problems": 0,
        "groups_kept": 0.5,
        "response_tokens": 5.0,
        "truncated": 0.0,
        "tokens_per_denoising_step": 20 / 8,
        "tokens_per_forward": 20 / 36,
        "tokens_per_s": 5.0,
        "reward_format": 0.25,
    }


def test_an_unfit_problem_is_counted_and_left_out_of_the_rewards() -> None:
    fit = group([1.0, 0.0], parts={"format": [1.0, 0.0]})
    unfit = group([0.0, 0.0], parts={"format": [1.0, 1.0], "unfit": [0.0, 1.0]})
    alone = rollout_metrics([fit], [fit], wall_s=1.0)
    both = rollout_metrics([fit, unfit], [fit], wall_s=2.0)
    assert both == alone | {"unfit_problems": 1, "groups_kept": 0.5}
    assert (both["reward"], both["accuracy"], both["reward_format"]) == (0.5, 0.5, 0.5)


def test_without_a_fit_problem_there_is_no_reward() -> None:
    metrics = rollout_metrics([group([0.0], parts={"unfit": [1.0]})], [], wall_s=1.0)
    assert metrics["unfit_problems"] == 1
    assert not {"reward", "accuracy", "reward_unfit"} & metrics.keys()
