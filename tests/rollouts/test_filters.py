"""Which groups are trained on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.rollouts.toy_groups import group
from unmask.configs.rollout import FilterConfig, ShapingConfig
from unmask.objectives.advantages import group_advantages
from unmask.rewards.math import is_equal
from unmask.rollouts.filters import is_kept
from unmask.rollouts.shaping import forfeit_overlong
from unmask.runs.trajectories import group_totals, total_reward
from unmask.sampling_params import SamplingParams
from unmask.types import Group, Reward

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "reward_v" / "scoring.json").read_text()
)


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


def test_a_filter_may_look_at_the_outcome_whatever_the_reward() -> None:
    config = FilterConfig(number="outcome", low=0.05, high=0.95)
    for outcomes, kept in [((0.0, 0.0), False), ((0.0, 1.0), True), ((1.0, 1.0), False)]:
        judged = group(((0.5, -0.5), (0.25, 0.0)), parts={"outcome": outcomes})
        assert is_kept(judged, config) == kept
        caption = replace(judged, prompt=replace(judged.prompt, reference={"is_caption": True}))
        assert is_kept(caption, config)
    assert not is_kept(caption, replace_config(config, max_mean_tokens=3))
    # By their reward, captions are as other groups.
    assert is_kept(caption, FilterConfig()) and not is_kept(caption, FilterConfig(low=1.0))


def replace_config(config: FilterConfig, **changes: object) -> FilterConfig:
    return FilterConfig.model_validate({**config.model_dump(), **changes})


@pytest.mark.parametrize(("rule", "forfeit_tokens"), [("plain", None), ("strict", 5)])
def test_groups_are_scored_and_kept_as_the_published_pipeline_does(
    rule: str, forfeit_tokens: int | None
) -> None:
    golden, bounds = GOLDEN["outcome"][rule], FilterConfig(low=0.05, high=0.95)
    shaping = ShapingConfig(forfeit_tokens=forfeit_tokens)
    groups = forfeit_overlong([*map(graded, GOLDEN["rollouts"])], shaping)
    assert [[*map(bool, group_totals(one))] for one in groups] == golden["correctness"]
    advantages = [group_advantages(group_totals(one), "group_std") for one in groups]
    assert advantages == [pytest.approx(rewards, abs=1e-12) for rewards in golden["rewards"]]
    kept = [pair for pair in zip(groups, advantages, strict=True) if is_kept(pair[0], bounds)]
    assert [(f"p{one.prompt.uid}", pytest.approx(a)) for one, of in kept for a in of] == [
        (item["prompt"], item["reward"]) for item in golden["training_items"]
    ]


def graded(rollout: dict[str, list[str]]) -> Group:
    """Return the graded answers to a question of the golden file, at most 12 tokens each."""
    gold = str(rollout["ground_truth_answer"])
    rewards = [is_equal(text, gold) for text in rollout["full_output"]]
    shapes = [(int(length), 1) for length in rollout["response_length"]]
    made = group(rewards, shapes, uid=int(rollout["prompt"][1:]))  # type: ignore[arg-type]
    sampling = SamplingParams(max_tokens=12)
    return replace(made, trajectories=[replace(t, sampling=sampling) for t in made.trajectories])
