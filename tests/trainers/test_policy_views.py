"""From groups to views: the row of the method table, the block, and what a reward becomes."""

import random
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch

from tests.diffusion.trajectories import random_trajectory
from tests.rollouts.toy_groups import group
from tests.toy import SPEC, toy_model
from tests.trainers.toy_runs import rl_config, toy_trajectories
from unmask.configs.objective import AdvantageConfig, ObjectiveConfig
from unmask.diffusion.views import views_of_trajectory
from unmask.trainers.policy_views import (
    check_train_block,
    enlarge_blocks,
    forfeit_overlong,
    penalty_numbers,
    policy_views,
    shaped_rewards,
    step_advantages,
    trajectory_views,
)
from unmask.types import Group


def test_each_method_is_its_row() -> None:
    (trajectory,) = toy_trajectories(toy_model(), 1)
    num_response = trajectory.num_response
    trace = policy_views(trajectory, 1.0, ObjectiveConfig())
    assert torch.equal(trace.target, views_of_trajectory(trajectory, 1.0).target)
    masked = policy_views(trajectory, 1.0, ObjectiveConfig(method="random", mask_views=5))
    assert len(masked.target) == 5
    coupled = policy_views(trajectory, 1.0, ObjectiveConfig(method="coupled", mask_views=5))
    assert coupled.target.sum(0)[:num_response].tolist() == [5] * num_response
    everything = ObjectiveConfig(method="random", mask_low=1.0, mask_high=1.0)
    assert policy_views(trajectory, 1.0, everything).target.sum() == num_response


def test_masks_follow_level_and_attention() -> None:
    (trajectory,) = toy_trajectories(toy_model(), 1)
    configs = [
        ObjectiveConfig(method="random", mask_views=9, mask_level=level)
        for level in ("per_block", "per_token")
    ]
    found = [
        policy_views(trajectory, 1.0, config, is_full=full) for config in configs for full in (0, 1)
    ]
    targets = [views.target for views in found]
    assert not torch.equal(targets[0], targets[1])  # a level per block, or per view
    assert torch.equal(targets[2], targets[3])  # per token either way
    assert [views.block for views in found] == [4, len(trajectory.canvas_ids)] * 2


def test_siblings_are_masked_differently_and_the_same_again() -> None:
    config = ObjectiveConfig(method="random", mask_views=4)
    first, second = (
        replace(t, prompt=t.prompt, sampling=replace(t.sampling, seed=seed))
        for seed, t in enumerate(toy_trajectories(toy_model(), 1) * 2)
    )
    looks = [policy_views(t, 1.0, config).target for t in (first, second, first)]
    assert torch.equal(looks[0], looks[2]) and not torch.equal(looks[0], looks[1])


def test_larger_blocks_keep_the_path_and_number_its_reveals() -> None:
    rng = random.Random(1)
    for _ in range(60):
        trajectory = random_trajectory(rng, 2)
        larger = enlarge_blocks(trajectory, 6)
        num_slots = len(larger.canvas_ids)
        assert (len(trajectory.prompt.token_ids) + num_slots) % 6 == 0
        views = views_of_trajectory(larger, 1.0)
        assert views.block == 6
        kept = len(trajectory.canvas_ids)
        assert views.hidden[:, kept:].all() and not views.target[:, kept:].any()
        # A slot is hidden in the view of another of its block if and only if it came no earlier.
        steps = larger.step_map
        offset = len(trajectory.prompt.token_ids) % 6
        for view, slot in views.target.nonzero().tolist():
            for other in range(num_slots):
                if (offset + other) // 6 == (offset + slot) // 6:
                    expected = steps[other] == 0 or steps[other] >= steps[slot]
                    assert bool(views.hidden[view, other]) == expected
        slots = torch.arange(num_slots)
        assert torch.equal(views.target.sum(0), (slots < trajectory.num_response).long())


def test_blocks_follow_their_schedule(tmp_path: Path) -> None:
    written = toy_trajectories(toy_model(), 2)
    groups = [Group(written[0].prompt, written[:2], [1.0, 0.0])]
    config = rl_config(tmp_path, "objective.train_block=[[3,8],[5,16]]")
    found = [trajectory_views(groups, config, step=step)[0].block for step in (1, 2, 3, 4, 5, 9)]
    assert found == [4, 4, 8, 8, 16, 16]
    config = rl_config(tmp_path, "objective.train_block=8")
    assert trajectory_views(groups, config)[0].block == 8


@pytest.mark.parametrize(
    ("found", "said"),
    [(6, "= 6 is no multiple of the rollouts' blocks of 4"), (2, "= 2 is no multiple")],
)
def test_blocks_the_rollouts_do_not_fit_into_are_refused(found: int, said: str) -> None:
    with pytest.raises(ValueError, match=f"objective.train_block {said}"):
        check_train_block(ObjectiveConfig(train_block=found), None, SPEC)
    with pytest.raises(ValueError, match=f"objective.train_block {said}"):
        check_train_block(ObjectiveConfig(train_block=((1, 8), (2, found))), 4, SPEC)


def test_blocks_are_refused_where_attention_is_full() -> None:
    full = replace(SPEC, attention="full")
    with pytest.raises(
        ValueError, match=r"objective\.train_block = 8 is for block-causal models: sdar"
    ):
        check_train_block(ObjectiveConfig(train_block=8), None, full)
    check_train_block(ObjectiveConfig(), None, full)
    check_train_block(ObjectiveConfig(train_block=8), 8, SPEC)


@pytest.mark.parametrize("words", ["[[3,8],[3,16]]", "[[0,8]]", "0", "[[2,8],[1,16]]"])
def test_schedules_that_are_none_are_refused(words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"objective\.train_block"):
        rl_config(tmp_path, f"objective.train_block={words}")


def test_long_answers_lose_reward_before_it_becomes_an_advantage() -> None:
    config = AdvantageConfig(baseline="group", overlong_penalty=1.0, overlong_tokens=4)
    judged = group([1.0, (0.5, 0.5, *[0.0] * 253), 0.0], [(4, 2), (255, 9), (256, 9)])
    assert shaped_rewards(judged, config) == [1.0, 0.25, -1.0]
    (found,) = step_advantages([judged], config)
    assert found == pytest.approx([r - fmean([1.0, 0.25, -1.0]) for r in (1.0, 0.25, -1.0)])
    assert penalty_numbers([judged], config) == {
        "overlong_penalty": pytest.approx(1.75 / 3),
        "overlong": pytest.approx(2 / 3),
    }
    off = AdvantageConfig(baseline="group")
    assert shaped_rewards(judged, off) == [1.0, 1.0, 0.0]
    assert penalty_numbers([judged], off) == {}


@pytest.mark.parametrize(("within", "forfeit"), [(0, [2]), (5, [1, 2]), (6, [0, 1, 2]), (None, [])])
def test_answers_that_are_all_but_cut_off_earn_nothing(
    within: int | None, forfeit: list[int]
) -> None:
    config = AdvantageConfig(forfeit_tokens=within)
    tokens = (0.5, *[0.0] * 249, 0.5)
    judged = group([1.0, tokens, 2.0], [(250, 2), (251, 9), (256, 9)])
    (found,) = forfeit_overlong([judged], config)
    expected = [1.0, tokens, 2.0]
    for place in forfeit:
        expected[place] = (0.0,) * 251 if place == 1 else 0.0
    assert list(found.rewards) == expected
    assert found.trajectories == judged.trajectories
    numbers = {} if within is None else {"forfeited": pytest.approx(len(forfeit) / 3)}
    assert penalty_numbers([found], config) == numbers


def test_the_global_baseline_compares_across_groups() -> None:
    groups = [group([1.0, 0.0]), group([3.0, 2.0])]
    found = step_advantages(groups, AdvantageConfig(baseline="global"))
    spread = 1.25**0.5
    assert found == [
        pytest.approx([-0.5 / spread, -1.5 / spread]),
        pytest.approx([1.5 / spread, 0.5 / spread]),
    ]


def test_views_carry_the_advantage_over_their_group_and_the_slots_asked_for(
    tmp_path: Path,
) -> None:
    written = toy_trajectories(toy_model(), strategy="random", stop_token_ids=tuple(range(2, 12)))
    steps = written[4].step_map[: written[4].num_response]
    per_token = tuple(float(step == steps[0]) for step in steps)  # one step earns 1
    groups = [
        Group(written[0].prompt, written[:3], [1.0, 0.0, 0.0]),
        Group(written[3].prompt, written[3:], [0.0, per_token, 1.0]),
    ]
    views = trajectory_views(groups, rl_config(tmp_path, "advantage.baseline=group"))
    found = [float(v.advantages.unique()) for v in views]
    assert found == pytest.approx([2 / 3, -1 / 3, -1 / 3, -2 / 3, 1 / 3, 1 / 3])
    assert [int(v.target.sum()) for v in views] == [t.num_response for t in written]

    views = trajectory_views(groups, rl_config(tmp_path, "objective.post_num=2"))
    after = [min(2, sum(step > 0 for step in t.step_map[t.num_response :])) for t in written]
    assert any(after)
    assert [int(v.target.sum()) for v in views] == [
        t.num_response + more for t, more in zip(written, after, strict=True)
    ]
