"""Trace views: the laws of TraceRL's views, against a twin in plain Python."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unmask.diffusion.trace import reveal_order, trace_views

Case = tuple[list[int], int, int, int]  # step map, block, offset, shrink


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a step map of whole blocks: later blocks later, some positions together, some never."""
    block = draw(st.integers(1, 6))
    offset = draw(st.integers(0, block - 1))
    num_blocks = draw(st.integers(1, 4))
    step_map: list[int] = []
    for index in range(num_blocks):
        size = block - (offset if index == 0 else 0)
        first = 1 + index * block
        step = st.one_of(st.just(0), st.integers(first, first + block - 1))
        step_map += draw(st.lists(step, min_size=size, max_size=size))
    return step_map, block, offset, draw(st.integers(1, 3))


def twin(case: Case) -> tuple[list[set[int]], list[set[int]]]:
    """Replay each block on its own: `(hidden, target)` positions of every view."""
    step_map, block, offset, shrink = case
    hidden: list[set[int]] = []
    target: list[set[int]] = []
    for number in range(len(step_map)):
        hidden.append(set())
        target.append(set())
        for index in range((offset + len(step_map) - 1) // block + 1):
            positions = [i for i in range(len(step_map)) if (offset + i) // block == index]
            steps = sorted({step_map[i] for i in positions} - {0})
            merged = steps[number * shrink : (number + 1) * shrink]
            done = steps[: number * shrink]
            target[-1] |= {i for i in positions if step_map[i] in merged}
            hidden[-1] |= {i for i in positions if step_map[i] not in done}
    while target and not target[-1]:
        hidden.pop()
        target.pop()
    return hidden, target


def slots_of(rows: torch.Tensor) -> list[set[int]]:
    return [set(row.nonzero()[:, 0].tolist()) for row in rows]


@given(cases())
def test_views_are_the_replay_of_every_block(case: Case) -> None:
    hidden, target = trace_views(torch.tensor(case[0]), *case[1:])
    assert (slots_of(hidden), slots_of(target)) == twin(case)


@given(cases())
def test_the_laws_of_views(case: Case) -> None:
    step_map = torch.tensor(case[0])
    hidden, target = trace_views(step_map, *case[1:])
    assert torch.equal(target.sum(0), (step_map > 0).long()), "a revealed position is a target once"
    assert not (target & ~hidden).any(), "a target is hidden"
    assert not (hidden[1:] & ~hidden[:-1]).any(), "hidden shrinks"
    assert torch.equal(hidden[:-1] & ~hidden[1:], target[:-1]), "by exactly the targets"
    assert hidden[:, step_map == 0].all(), "what was never revealed is hidden everywhere"
    assert target.any(-1).all(), "no view is without a target"


@given(cases())
def test_the_offset_moves_block_borders_and_nothing_else(case: Case) -> None:
    """A prompt tail in front of the first block is a block with that many positions fewer."""
    step_map, block, offset, shrink = case
    with_prompt = torch.tensor([0] * offset + step_map)
    hidden, target = trace_views(with_prompt, block, 0, shrink)
    expected = (hidden[:, offset:], target[:, offset:])
    assert all(
        map(torch.equal, trace_views(torch.tensor(step_map), block, offset, shrink), expected)
    )


@given(cases())
def test_shrink_merges_neighbouring_views(case: Case) -> None:
    step_map, block, offset, shrink = case
    hidden, target = trace_views(torch.tensor(step_map), block, offset)
    merged_hidden, merged_target = trace_views(torch.tensor(step_map), block, offset, shrink)
    assert len(merged_target) == -(-len(target) // shrink)
    assert torch.equal(merged_hidden, hidden[::shrink])
    groups = [target[i : i + shrink].any(0) for i in range(0, len(target), shrink)]
    assert slots_of(merged_target) == [set(g.nonzero()[:, 0].tolist()) for g in groups]


@given(cases(), st.integers(1, 5))
def test_only_the_order_of_steps_counts(case: Case, stretch: int) -> None:
    step_map = torch.tensor(case[0])
    stretched = torch.where(step_map > 0, step_map * stretch + 3, 0)
    assert all(
        map(torch.equal, trace_views(step_map, *case[1:]), trace_views(stretched, *case[1:]))
    )


def test_the_worked_example() -> None:
    """Two blocks of four, revealed in steps 3 1 1 2 and 5 4 6 6."""
    step_map = torch.tensor([3, 1, 1, 2, 5, 4, 6, 6])
    hidden, target = trace_views(step_map, 4)
    assert slots_of(target) == [{1, 2, 5}, {3, 4}, {0, 6, 7}]
    assert slots_of(hidden) == [set(range(8)), {0, 3, 4, 6, 7}, {0, 6, 7}]
    _, merged = trace_views(step_map, 4, shrink=2)
    assert slots_of(merged) == [{1, 2, 3, 4, 5}, {0, 6, 7}]


def test_full_attention_is_one_block() -> None:
    """Positions of later blocks of writing are hidden in every view of an earlier one."""
    hidden, target = trace_views(torch.tensor([2, 1, 4, 3]), 4)
    assert slots_of(target) == [{1}, {0}, {3}, {2}]
    assert slots_of(hidden) == [{0, 1, 2, 3}, {0, 2, 3}, {2, 3}, {2}]


@pytest.mark.parametrize("shrink", [1, 2])
def test_a_trajectory_without_reveals_has_no_views(shrink: int) -> None:
    hidden, target = trace_views(torch.zeros(4, dtype=torch.int64), 4, 0, shrink)
    assert hidden.shape == target.shape == (0, 4)


def test_reveals_are_numbered_per_block() -> None:
    order = reveal_order(torch.tensor([7, 7, 0, 9, 8, 9]), 4, 2)
    assert order.tolist() == [0, 0, -1, 1, 0, 1]
