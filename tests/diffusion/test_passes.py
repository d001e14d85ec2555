"""The passes of a trajectory, against the passes as they happened."""

import random
from dataclasses import replace
from itertools import groupby

import pytest
import torch

from tests.diffusion.trajectories import (
    Pass,
    random_canvas,
    random_revising,
    random_trajectory,
)
from unmask.diffusion.passes import Passes, trajectory_passes
from unmask.diffusion.trace import trace_views
from unmask.types import Trajectory


def passes_of(trajectory: Trajectory, is_full: bool) -> Passes:
    block = len(trajectory.canvas_ids) if is_full else trajectory.sampling.block_size
    assert block
    return trajectory_passes(
        trajectory, block, 0 if is_full else len(trajectory.prompt.token_ids) % block
    )


def assert_state(found: Passes, view: int, one: Pass, places: list[int]) -> None:
    """Assert that a view holds, at some positions, what stood there before a pass, and its writes."""
    for i in places:
        before = None if found.hidden[view, i] else int(found.inputs[view, i])
        assert before == one.before[i]
        wrote = int(found.target_ids[view, i]), float(found.logprobs[view, i])
        assert (wrote if found.target[view, i] else None) == one.writes.get(i)


@pytest.mark.parametrize("is_full", [False, True])
def test_passes_are_those_that_happened(is_full: bool) -> None:
    rng, kinds, empty = random.Random(0), set[str](), 0
    for _ in range(200):
        trajectory, taken = random_revising(rng, rng.choice([1, 2, 4, 5]), is_full)
        kinds |= {revision.kind for revision in trajectory.revisions}
        found, places = passes_of(trajectory, is_full), list(range(len(trajectory.canvas_ids)))
        if is_full:
            assert found.num_passes.tolist() == [len(taken)] * len(places)
            for n, one in enumerate(taken):
                assert_state(found, n, one, places)
            continue
        block = trajectory.sampling.block_size
        assert block
        offset = len(trajectory.prompt.token_ids) % block
        for number, group in groupby(taken, key=lambda one: one.block):
            of_block = [i for i in places if (offset + i) // block == number]
            states = list(group)
            empty += not states[-1].writes
            assert found.num_passes[of_block].tolist() == [len(states)] * len(of_block)
            for n, one in enumerate(states):
                assert_state(found, n, one, of_block)
            # Views after the last pass of a block hold its final text.
            for n in range(len(states), len(found.hidden)):
                assert not found.hidden[n, of_block].any() and not found.target[n, of_block].any()
                expected = [trajectory.canvas_ids[i] for i in of_block]
                assert found.inputs[n, of_block].tolist() == expected
    assert kinds == {"write", "remask"} and (is_full or empty > 20)


@pytest.mark.parametrize("is_full", [False, True])
def test_passes_of_a_write_once_trajectory_are_its_trace(is_full: bool) -> None:
    rng = random.Random(1)
    for _ in range(100):
        block = rng.choice([1, 2, 4, 5])
        one = random_canvas(rng, 5) if is_full else random_trajectory(rng, block)
        # A trajectory is drawn with steps that wrote nothing.
        number = {s: n for n, s in enumerate(sorted({*one.step_map, 0}))}
        one = replace(one, step_map=tuple(number[s] for s in one.step_map))
        size = len(one.canvas_ids) if is_full else block
        offset = 0 if is_full else len(one.prompt.token_ids) % block
        hidden, target = trace_views(torch.tensor(one.step_map), size, offset)
        found = trajectory_passes(one, size, offset)
        assert torch.equal(found.hidden, hidden) and torch.equal(found.target, target)
        assert torch.equal(found.inputs, torch.tensor(one.canvas_ids).expand(target.shape))
        assert torch.equal(found.target_ids, found.inputs)
        logprobs = torch.tensor(one.behavior_logprobs, dtype=torch.float64)
        assert torch.equal(found.logprobs, logprobs.expand(target.shape) * target)


def test_a_position_that_was_pinned_stands_in_every_pass() -> None:
    rng = random.Random(2)
    one = replace(random_trajectory(rng, 4, 4), step_map=(1, 2, 0, 2), num_response=4)
    one = replace(one, canvas_ids=(5, 6, 7, 8), behavior_logprobs=(-1.0,) * 4)
    sampling = replace(one.sampling, pinned=((2, 7),), edit_threshold=0.9)
    one = replace(one, sampling=sampling, num_steps=3)
    found = trajectory_passes(one, 4)
    assert found.hidden.tolist() == [
        [True, True, False, True],
        [False, True, False, True],
        [False, False, False, False],
    ]
    assert found.inputs[:, 2].tolist() == [7] * 3 and found.num_passes.tolist() == [3] * 4


def test_blocks_that_took_no_pass_have_none() -> None:
    """The second block was pinned whole, the fourth never begun."""
    one = random_trajectory(random.Random(3), 2, 2)
    pinned = ((2, 5), (3, 6))
    one = replace(
        one,
        canvas_ids=(9,) * 8,
        step_map=(1, 1, 0, 0, 4, 3, 0, 0),
        behavior_logprobs=(-1.0,) * 8,
        num_response=6,
        num_steps=5,
        sampling=replace(one.sampling, block_size=2, pinned=pinned, edit_threshold=0.9),
    )
    found = trajectory_passes(one, 2)
    assert found.num_passes.tolist() == [2, 2, 0, 0, 3, 3, 0, 0]
    assert found.target.nonzero().tolist() == [[0, 0], [0, 1], [0, 5], [1, 4]]
