"""What a pass feeds: within its budget, in order, whole blocks, and at least one sequence advances."""

import random
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.states import ALPHABET, CANVAS, SHIFTED, ask, opened
from tests.toy import SPEC
from unmask.diffusion.conventions import Conventions
from unmask.engine.batch_plan import lay_rows, lay_scored, plan_block, plan_feed
from unmask.engine.options import EngineParams
from unmask.engine.sequence_state import SequenceState

WIDE = EngineParams(row_budget=10**6)
FULL = replace(SPEC, attention="full")


def put(state: SequenceState, **columns: list[int]) -> SequenceState:
    state.set(**{name: torch.tensor(values) for name, values in columns.items()})
    return state


def feed_of(
    state: SequenceState, params: EngineParams = WIDE, conventions: Conventions = ALPHABET
) -> tuple[list[tuple[int, int]], list[bool]]:
    """Return the positions each sequence feeds, as (first, end), and whether it denoises."""
    feed = plan_feed(state, int(state.block.max()), params, conventions)
    ends = (feed.first + feed.counts).tolist()
    return list(zip(feed.first.tolist(), ends, strict=True)), feed.denoises.tolist()


def test_a_new_sequence_feeds_its_prompt_and_its_first_block() -> None:
    assert feed_of(opened(ask(6), ask(0, block=2))) == ([(0, 8), (0, 2)], [True, True])


def test_a_finished_block_is_fed_with_the_next_one() -> None:
    state = put(opened(ask(6), ask(6)), start=[8, 8], cached=[4, 8])
    assert feed_of(state) == ([(4, 12), (8, 12)], [True, True])


def test_a_separate_commit_denoises_nothing() -> None:
    state = put(opened(ask(6), ask(6)), start=[8, 8], cached=[4, 8])
    assert feed_of(state, replace(WIDE, fuses_commit=False)) == ([(4, 8), (8, 12)], [False, True])


def test_an_inactive_sequence_feeds_nothing() -> None:
    state = opened(ask(6), ask(6))
    state.active[0] = False
    feed = plan_feed(state, 4, WIDE, ALPHABET)
    assert feed.counts.tolist() == [0, 8] and feed.denoises.tolist() == [False, True]


def test_a_shifted_model_reads_the_first_position_off_the_row_before() -> None:
    """While it is masked, only clean text is fed; its row is the last one before the block."""
    state = opened(ask(6), ask(8), ask(9))
    assert feed_of(state, conventions=SHIFTED)[0] == [(0, 8), (0, 8), (0, 12)]
    feed = plan_feed(state, 4, WIDE, SHIFTED)
    block, _ = plan_block(state, feed, 4, SHIFTED)
    assert block.hidden.int().tolist() == [[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 1, 1]]
    rows = lay_rows(state, feed, 32, is_full=False)
    scored = lay_scored(block.hidden, 6, state, feed, rows, is_shifted=True)
    assert rows.position[scored.row].tolist() == [5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("cache", "span", "limit"),
    [
        ("exact", (0, 20), 20),
        ("prefix", (8, 20), 20),
        ("dual", (8, 12), 20),
        ("window", (8, 14), 14),
    ],
)
def test_an_approximate_cache_feeds_less_once_a_block_is_under_way(
    cache: str, span: tuple[int, int], limit: int
) -> None:
    params = replace(WIDE, cache=cache, horizon=2)
    state = put(opened(ask(4, max_tokens=16), spec=FULL), start=[8])
    feed = plan_feed(state, 4, params, CANVAS)
    assert (feed.first.tolist(), feed.counts.tolist(), feed.limit.tolist()) == ([0], [20], [20])
    state.is_fresh[0] = False
    assert feed_of(state, params, CANVAS)[0] == [span]
    assert plan_feed(state, 4, params, CANVAS).limit.tolist() == [limit]


def test_a_shifted_canvas_keeps_the_row_before_the_block() -> None:
    state = put(opened(ask(4, max_tokens=16), spec=replace(FULL, is_shifted=True)), start=[8])
    state.is_fresh[0] = False
    assert feed_of(state, replace(WIDE, cache="dual"), replace(CANVAS, is_shifted=True))[0] == [
        (7, 12)
    ]


def test_only_the_open_sub_block_is_fed_again() -> None:
    state = opened(ask(8, block=8, sub_block_size=2), ask(8, block=8, sub_block_size=2))
    put(state, cached=[8, 8])
    state.step_map[0, 8:10] = 1
    state.is_fresh[0] = False
    assert feed_of(state, replace(WIDE, cache="dual"))[0] == [(10, 12), (8, 16)]


class Phase(NamedTuple):
    """A sequence anywhere between a new prompt and a block under way."""

    num_prompt: int
    block: int
    blocks_written: int
    blocks_cached: int
    is_active: bool


PHASES = st.lists(
    st.builds(
        Phase,
        num_prompt=st.integers(0, 60),
        block=st.sampled_from([1, 3, 4, 8]),
        blocks_written=st.integers(0, 2),
        blocks_cached=st.integers(0, 60),
        is_active=st.sampled_from([True, True, False]),
    ),
    min_size=1,
    max_size=7,
)
BUDGETS = st.integers(1, 80)


def in_phases(phases: list[Phase], order: random.Random) -> SequenceState:
    """Return sequences in these phases, which came in a drawn order."""
    state = opened(*(ask(p.num_prompt, p.block, max_tokens=24) for p in phases))
    start = state.start + torch.tensor([p.blocks_written for p in phases]) * state.block
    cached = torch.tensor([p.blocks_cached for p in phases]) * state.block
    number = order.sample(range(len(phases)), len(phases))
    state.set(
        start=start,
        cached=torch.minimum(cached, start),
        request_id=torch.tensor(number),
        active=torch.tensor([p.is_active for p in phases]),
    )
    return state


@settings(max_examples=150)
@given(PHASES, BUDGETS, st.randoms(use_true_random=False), st.booleans())
def test_a_pass_keeps_to_its_budget_and_feeds_at_least_one_sequence(
    phases: list[Phase], budget: int, order: random.Random, fuses: bool
) -> None:
    state = in_phases(phases, order)
    free = replace(WIDE, fuses_commit=fuses)
    wanted = plan_feed(state, 8, free, ALPHABET)
    feed = plan_feed(state, 8, replace(free, row_budget=budget), ALPHABET)
    assert torch.equal(feed.first, wanted.first)
    fed, all_of = feed.counts.tolist(), wanted.counts.tolist()
    running = [index for index in range(len(fed)) if all_of[index]]
    assert sum(fed) <= budget or sum(count > 0 for count in fed) == 1
    assert any(fed) or not running
    clean = (state.start - feed.first).tolist()
    for index, count in enumerate(fed):
        if count < all_of[index]:
            assert count % phases[index].block == 0 and count <= clean[index], (
                "whole blocks of text"
            )
            assert not feed.denoises[index]
    # Writers before prompts, then first come first served: once one waits, all behind it do.
    number = state.request_id.tolist()
    is_prompt = [clean[index] > phases[index].block for index in range(len(fed))]
    queue = sorted(running, key=lambda index: (is_prompt[index], number[index]))
    whole = [index for index in queue if fed[index] == all_of[index]]
    assert whole == queue[: len(whole)]
    assert not any(fed[index] for index in queue[len(whole) + 1 :])


@settings(max_examples=50)
@given(PHASES, BUDGETS, st.randoms(use_true_random=False))
def test_a_canvas_is_fed_whole_or_not_at_all(
    phases: list[Phase], budget: int, order: random.Random
) -> None:
    state = in_phases(phases, order)
    feed = plan_feed(state, 8, EngineParams(row_budget=budget), CANVAS)
    whole = (state.canvas_end * state.active).tolist()
    assert all(count in (0, size) for count, size in zip(feed.counts.tolist(), whole, strict=True))
    assert bool(feed.counts.any()) == bool(state.active.any())


@settings(max_examples=60)
@given(PHASES, BUDGETS, st.randoms(use_true_random=False))
def test_a_prompt_in_chunks_is_the_prompt(
    phases: list[Phase], budget: int, order: random.Random
) -> None:
    """Pass after pass, every sequence comes to denoise, and no position is skipped or fed twice."""
    state = in_phases(phases, order)
    for _ in range(500):
        feed = plan_feed(state, 8, EngineParams(row_budget=budget), ALPHABET)
        end = feed.first + feed.counts
        assert (feed.first == state.cached).all()
        assert ((end <= state.start) | feed.denoises).all()
        state.set(cached=torch.minimum(end, state.start), active=state.active & ~feed.denoises)
        if not state.active.any():
            return
    raise AssertionError("a sequence never denoises")


def test_rows_lie_one_sequence_after_the_other_each_with_its_limit() -> None:
    state = opened(ask(6), ask(0, block=2))
    feed = plan_feed(state, 4, WIDE, ALPHABET)
    rows = lay_rows(state, feed, 16, is_full=False)
    assert rows.sequence.tolist()[:10] == [0] * 8 + [1] * 2
    assert rows.position.tolist() == [*range(8), 0, 1, *[0] * 6]
    assert rows.limit.tolist() == [4] * 4 + [8] * 4 + [2, 2] + [0] * 6, "0 is padding"
    assert rows.counts.tolist() == [8, 2] and rows.starts.tolist() == [0, 8]


def test_under_full_attention_every_row_sees_the_canvas() -> None:
    state = opened(ask(3, max_tokens=6), spec=FULL)
    rows = lay_rows(state, plan_feed(state, 4, WIDE, CANVAS), 16, is_full=True)
    assert rows.limit.tolist() == [9] * 9 + [0] * 7


def test_hidden_positions_are_scored_in_order() -> None:
    state = opened(ask(6), ask(0, block=2))
    feed = plan_feed(state, 4, WIDE, ALPHABET)
    block, _ = plan_block(state, feed, 4, ALPHABET)
    scored = lay_scored(
        block.hidden, 6, state, feed, lay_rows(state, feed, 16, False), is_shifted=False
    )
    assert scored.row.tolist() == [6, 7, 8, 9, 0, 0]
    assert scored.sequence.tolist() == [0, 0, 1, 1, 0, 0]
    assert scored.column.tolist() == [2, 3, 0, 1, 4, 4], "column K is padding"


def test_a_sequence_that_waits_has_nothing_hidden_and_keeps_its_step() -> None:
    state = put(opened(ask(20, strategy="static"), ask(20, strategy="static")), cached=[20, 20])
    state.set(step_in_block=torch.tensor([1, 2]))
    feed = plan_feed(state, 4, EngineParams(row_budget=4), ALPHABET)
    block, next_step = plan_block(state, feed, 4, ALPHABET)
    assert block.hidden.any(1).tolist() == [True, False] and next_step.tolist() == [2, 2]
