"""The targets: advantages per token, along the steps that were taken."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.diffusion.trajectories import CONVENTIONS
from tests.diffusion.trajectories import trajectories as any_trajectory
from tests.invariants.conventions import TOYS
from tests.trainers.toy_critics import (
    critic_of,
    group_of,
    toy_value_model,
    traced,
    views_of,
    written,
)
from unmask.diffusion.views import Views, views_of_trajectory
from unmask.objectives.value import token_returns_and_advantages
from unmask.trainers.rollout_views import enlarge_blocks
from unmask.trainers.value_targets import denoising_steps, spread_rewards


def test_values_of_0_leave_the_advantage_as_it_was(tmp_path: Path) -> None:
    model = toy_value_model()
    torch.nn.init.zeros_(model.value_head.weight)
    trajectories = written(False)
    views = views_of(trajectories)
    targets = critic_of(model, tmp_path).estimate(group_of(trajectories), views)
    for before, found in zip(views, targets.views, strict=True):
        expected = before.advantages.expand(before.target.shape)[before.target]
        torch.testing.assert_close(found.advantages[before.target], expected)
    assert targets.metrics["value_explained_variance"] == pytest.approx(0)
    with_critic, without = (
        targets.metrics[name]
        for name in ("advantage_variance", "advantage_variance_without_critic")
    )
    assert with_critic == pytest.approx(without) != 0


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("shrink", [1, 2])
def test_advantages_are_those_of_the_formulas_on_the_steps_that_were_taken(
    is_full: bool, shrink: int, tmp_path: Path
) -> None:
    model = toy_value_model(**TOYS["full"] if is_full else {})
    trajectories = written(is_full, seed=1)
    rng = random.Random(2)
    rewards = [tuple(rng.random() for _ in range(t.num_response)) for t in trajectories]
    views = views_of(trajectories, is_full, shrink)
    critic = critic_of(model, tmp_path, "advantage.gamma=0.9", "advantage.lam=0.8")
    targets = critic.estimate(group_of(trajectories, rewards), views)
    for t, own_views in enumerate(views):
        steps, positions = denoising_steps(own_views), own_views.target.nonzero()[:, 1]
        given = spread_rewards(torch.tensor(rewards[t], dtype=torch.float64), steps, positions)
        values = targets.values[t, : len(steps)]
        expected = token_returns_and_advantages(values[None], given[None], steps[None], 0.9, 0.8)
        torch.testing.assert_close(targets.returns[t, : len(steps)], expected[0][0])
        found = targets.views[t].advantages[own_views.target]
        torch.testing.assert_close(found, expected[1][0].float())


def ranks(views: Views) -> list[int]:
    """Return the number of each position's step among those of its trajectory, from 1, and 0 where it has none."""
    found = torch.zeros(len(views.canvas_ids), dtype=torch.int64)
    steps = denoising_steps(views)
    found[views.target.nonzero()[:, 1]] = steps.unique(return_inverse=True)[1] + 1
    return found.tolist()


@pytest.mark.parametrize(
    ("shrink", "is_full", "expected"),
    [
        (1, False, [3, 1, 1, 2, 5, 4, 6, 6]),
        (2, False, [2, 1, 1, 1, 3, 3, 4, 4]),
        (2, True, [2, 1, 1, 1, 3, 2, 3, 3]),
        (9, False, [1, 1, 1, 1, 2, 2, 2, 2]),
        (9, True, [1] * 8),
    ],
)
def test_merged_reveals_are_one_step(shrink: int, is_full: bool, expected: list[int]) -> None:
    trajectory = traced((3, 1, 1, 2, 5, 4, 6, 6))
    assert ranks(views_of_trajectory(trajectory, 1.0, shrink, is_full=is_full)) == expected


@pytest.mark.parametrize("is_full", [False, True])
@given(data=st.data(), shrink=st.integers(1, 4), post_num=st.integers(0, 2))
def test_steps_keep_the_order_of_reveals_whatever_the_trajectory(
    is_full: bool, data: st.DataObject, shrink: int, post_num: int
) -> None:
    trajectory = data.draw(any_trajectory(replace(CONVENTIONS, is_full=is_full)))
    views = views_of_trajectory(trajectory, 1.0, shrink, post_num, is_full)
    view, position = views.target.nonzero(as_tuple=True)
    steps, taken = denoising_steps(views), torch.tensor(trajectory.step_map)[position]
    # No position precedes one that was revealed earlier; steps that differ also differ in the views.
    assert not ((taken[:, None] < taken) & (steps[:, None] > steps)).any()
    same = steps[:, None] == steps
    assert not (same & (view[:, None] != view)).any()
    if shrink == 1:
        assert torch.equal(same, taken[:, None] == taken)


def test_steps_in_larger_blocks_are_those_that_were_taken() -> None:
    trajectory = traced((3, 1, 1, 2, 5, 4, 6, 6, 8, 7, 9, 9))
    found = ranks(views_of_trajectory(enlarge_blocks(trajectory, 8), 1.0))
    assert tuple(found) == (*trajectory.step_map, *[0] * (len(found) - 12))


def test_slots_right_of_the_response_change_no_steps_mean() -> None:
    steps = torch.tensor([1, 2, 2, 2, 3])
    rewards = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    found = spread_rewards(rewards, steps, torch.arange(5))
    assert found.tolist() == [0.5, 1.0, 2.0, 1.5, 0.0]


def test_a_process_reward_pays_what_its_steps_have_yet_to_earn(tmp_path: Path) -> None:
    model = toy_value_model()
    torch.nn.init.zeros_(model.value_head.weight)
    trajectory = traced((1, 2, 2, 3))
    targets = critic_of(model, tmp_path).estimate(
        group_of([trajectory], [(1.0, 0.0, 2.0, 4.0)]), views_of([trajectory])
    )
    assert targets.returns.tolist() == [[6.0, 4.0, 6.0, 4.0]]


def test_an_overlong_response_pays_on_its_last_step(tmp_path: Path) -> None:
    trajectory = traced((1, 2, 2, 3))
    trajectory = replace(trajectory, sampling=replace(trajectory.sampling, max_tokens=4))
    words = ["shaping.overlong_penalty=0.5", "shaping.overlong_tokens=2"]
    targets = critic_of(toy_value_model(), tmp_path, *words).estimate(
        group_of([trajectory], [(0.0, 0.0, 0.0, 1.0)]), views_of([trajectory])
    )
    assert targets.returns.tolist() == [[0.5] * 4]


def test_a_process_reward_of_another_length_is_named(tmp_path: Path) -> None:
    trajectories = written(False, count=2)
    rewards = [1.0, (0.5,) * (trajectories[1].num_response + 1)]
    with pytest.raises(ValueError, match="numbers for a response of"):
        critic_of(toy_value_model(), tmp_path).estimate(
            group_of(trajectories, rewards), views_of(trajectories)
        )
