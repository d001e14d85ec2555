"""From groups to views: the row of the method table, the block, and the advantage."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.diffusion.trajectories import random_revising, random_trajectory
from tests.toy import SPEC, toy_model
from tests.trainers.toy_methods import row
from tests.trainers.toy_runs import rl_config, toy_trajectories
from unmask.configs.methods.view_section import ViewSection
from unmask.diffusion.views import views_of_trajectory
from unmask.trainers.rollout_views import (
    check_train_block,
    enlarge_blocks,
    outcome_columns,
    recorded_advantages,
    rollout_views,
)
from unmask.types import Group


def blocks(train_block: Any) -> ViewSection:
    return row({"train_block": train_block}).views


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


def test_passes_of_a_larger_block_are_those_of_its_blocks_in_order() -> None:
    """Each writes what it wrote, in a block whose later part is hidden and whose earlier part is done."""
    rng = random.Random(4)
    for _ in range(40):
        trajectory, taken = random_revising(rng, 2)
        trajectory = replace(trajectory, num_response=len(trajectory.canvas_ids))
        views = views_of_trajectory(enlarge_blocks(trajectory, 6), 1.0)
        offset, size = len(trajectory.prompt.token_ids) % 6, len(trajectory.canvas_ids)
        first = int((len(trajectory.prompt.token_ids) % 6) // 2)  # of the canvas, in blocks of two
        for number in range(-(-(offset + size) // 6)):
            passes = [one for one in taken if (first + one.block) // 3 == number and one.writes]
            places = [i for i in range(size) if (offset + i) // 6 == number]
            found = [v for v in range(len(views.target)) if views.target[v, places].any()]
            for view, one in zip(found, passes, strict=True):
                assert views.target[view, places].tolist() == [i in one.writes for i in places]
                before = [one.before[i] is None for i in places]
                assert views.hidden[view, places].tolist() == before
                kept = [i for i in places if one.before[i] is not None]
                assert [int(views.read_in(view)[i]) for i in kept] == [one.before[i] for i in kept]


def test_blocks_follow_their_schedule(tmp_path: Path) -> None:
    written = toy_trajectories(toy_model(), 2)
    groups = [Group(written[0].prompt, written[:2], [1.0, 0.0])]
    config = rl_config(tmp_path, "views.train_block=[[3,8],[5,16]]")
    found = [rollout_views(groups, config, step=step)[0].block for step in (1, 2, 3, 4, 5, 9)]
    assert found == [4, 4, 8, 8, 16, 16]
    config = rl_config(tmp_path, "views.train_block=8")
    assert rollout_views(groups, config)[0].block == 8


@pytest.mark.parametrize(
    ("found", "said"),
    [(6, "= 6 must be a multiple of the rollouts' blocks of 4"), (2, "= 2 must be a multiple")],
)
def test_blocks_the_rollouts_do_not_fit_into_are_refused(found: int, said: str) -> None:
    with pytest.raises(ValueError, match=f"views.train_block {said}"):
        check_train_block(blocks(found), None, SPEC)
    with pytest.raises(ValueError, match=f"views.train_block {said}"):
        check_train_block(blocks([[1, 8], [2, found]]), 4, SPEC)


def test_blocks_are_refused_where_attention_is_full() -> None:
    full = replace(SPEC, attention="full")
    with pytest.raises(
        ValueError,
        match=r"views.train_block = 8 is for block-causal models: sdar has full attention",
    ):
        check_train_block(blocks(8), None, full)
    check_train_block(blocks(None), None, full)
    check_train_block(blocks(8), 8, SPEC)


def test_outcomes_from_the_lowest_right_one_on_are_right(tmp_path: Path) -> None:
    written = toy_trajectories(toy_model(), 3)
    group = Group(written[0].prompt, written, [9.0, 9.0, 9.0], {"outcome": [0.0, 0.5, 1.0]})
    views = [views_of_trajectory(t, 1.0) for t in written]
    for words, expected in ((["loss.nll_from=0.5"], [0, 1, 1]), ([], [0, 0, 1])):
        columns = outcome_columns([group], views, rl_config(tmp_path, "loss.nll=0.1", *words))
        assert [float(c["right"].unique()) for c in columns] == expected
        assert [c["right"].shape for c in columns] == [v.target.shape for v in views]
    assert outcome_columns([group], views, rl_config(tmp_path)) == [{}, {}, {}]


@pytest.mark.parametrize("words", ["[[3,8],[3,16]]", "[[0,8]]", "0", "[[2,8],[1,16]]"])
def test_schedules_that_are_none_are_refused(words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"views.train_block"):
        rl_config(tmp_path, f"views.train_block={words}")


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
    views = rollout_views(groups, rl_config(tmp_path, "advantage.kind=group"))
    found = [float(v.advantages.unique()) for v in views]
    assert found == pytest.approx([2 / 3, -1 / 3, -1 / 3, -2 / 3, 1 / 3, 1 / 3])
    assert [int(v.target.sum()) for v in views] == [t.num_response for t in written]

    kept = recorded_advantages(groups, views, rl_config(tmp_path))
    assert [kept[id(t)] for t in written] == [
        pytest.approx([advantage] * len(t.canvas_ids))
        for t, advantage in zip(written, found, strict=True)
    ]
    valued = rl_config(tmp_path, "advantage.kind=value")
    assert recorded_advantages(groups, views, valued) == {}

    views = rollout_views(groups, rl_config(tmp_path, "views.post_num=2"))
    after = [min(2, sum(step > 0 for step in t.step_map[t.num_response :])) for t in written]
    assert any(after)
    assert [int(v.target.sum()) for v in views] == [
        t.num_response + more for t, more in zip(written, after, strict=True)
    ]
