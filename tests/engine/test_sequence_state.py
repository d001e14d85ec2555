"""The state of running sequences: opened, put in place, advanced, ended."""

from dataclasses import fields, replace

import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from tests.engine.states import ALPHABET, CANVAS, MASK, SHIFTED, ask, opened, request_of
from tests.toy import SPEC
from unmask.diffusion.conventions import Conventions
from unmask.diffusion.reference_sampler import find_end
from unmask.diffusion.unmask import Block
from unmask.engine.batch_plan import plan_block, plan_feed
from unmask.engine.options import EngineParams
from unmask.engine.sequence_state import (
    COLUMNS,
    PER_POSITION,
    SequenceState,
    advance,
    block_positions,
    find_ends,
    hidden_positions,
    may_change,
    next_block,
    read_finished,
)
from unmask.sampling_params import SamplingParams
from unmask.types import Trajectory


def writes(block: Block, token: int, broken: int = -1) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return logits that make every scored position `token`, surest on the left; sequence `broken` gets NaN."""
    sequence, column = block.hidden.nonzero(as_tuple=True)
    logits = torch.zeros(len(sequence), 24)
    logits[:, token] = 20 - column.float()
    logits[sequence == broken] = torch.nan
    return logits, (sequence, column)


def tick(
    state: SequenceState, token: int, conventions: Conventions = ALPHABET, broken: int = -1
) -> None:
    width = int(state.block.max())
    feed = plan_feed(state, width, EngineParams(row_budget=10**6), conventions)
    block, next_step = plan_block(state, feed, width, conventions)
    logits, rows = writes(block, token, broken)
    state.set(step_in_block=next_step)
    advance(state, logits, block, feed.denoises, rows, conventions)


def test_new_sequences_hold_their_prompt_and_a_first_block_of_masks() -> None:
    state = opened(ask(6), ask(8), ask(0, block=2, max_tokens=3))
    assert state.tokens.shape == (3, 17), "one place more, for scrap"
    assert state.tokens[0].tolist() == [5] * 6 + [MASK] * 11
    assert state.start.tolist() == [4, 8, 0]
    assert state.num_masks.tolist() == [2, 4, 2]
    assert state.canvas_end.tolist() == [16, 16, 4]
    assert state.cached.tolist() == [0, 0, 0] and state.active.all() and state.is_fresh.all()
    assert not state.step_map.any() and not state.logprobs.any()
    positions, in_block = block_positions(state, 4)
    assert positions.tolist() == [[4, 5, 6, 7], [8, 9, 10, 11], [0, 1, 16, 16]]
    assert in_block.sum(1).tolist() == [4, 4, 2]


def test_the_prompt_tail_is_never_hidden() -> None:
    state = opened(([5, 5, 5, 5, 5, MASK], ask(0)[1]), ask(0, block=2))
    hidden = hidden_positions(state, 4)
    assert hidden.tolist() == [[False, False, True, True], [True, True, False, False]]


def test_an_unused_sequence_index_has_nothing_hidden() -> None:
    state = opened(ask(6), ask(0))
    state.active[0] = False
    assert not hidden_positions(state, 4)[0].any() and hidden_positions(state, 4)[1].all()


def test_a_sequence_moves_on_when_its_block_is_full() -> None:
    state = opened(ask(6, threshold=0.5), ask(6, strategy="static"))
    tick(state, 7)
    assert state.start.tolist() == [8, 4] and state.num_masks.tolist() == [4, 2]
    assert state.step_in_block.tolist() == [0, 1] and state.is_fresh.tolist() == [True, True]
    assert state.step_map[0, 6:8].tolist() == [1, 1]
    assert state.tokens[1, 6:8].tolist() == [7, MASK]
    tick(state, 8)
    assert state.step_map[0, 8:12].tolist() == [2] * 4
    assert state.tokens[1, 6:8].tolist() == [7, 8] and state.step_map[1, 6:8].tolist() == [1, 2]
    assert state.start.tolist() == [12, 8]


def test_nothing_is_written_outside_the_block() -> None:
    state = opened(ask(6, strategy="static"), ask(3, block=2, threshold=0.5))
    tick(state, 7)
    assert state.tokens[0].tolist() == [5] * 6 + [7] + [MASK] * 10
    assert state.tokens[1, :4].tolist() == [5, 5, 5, 7]
    assert (state.tokens[1, 4:] == MASK).all()


def test_a_sequence_that_ended_stays_in_its_block() -> None:
    state = opened(ask(6, threshold=0.5, max_tokens=2))
    tick(state, 7)
    assert state.num_response.tolist() == [2] and not state.is_stop.any()
    assert state.start.tolist() == [4] and not state.active.any()


def test_logits_that_are_not_numbers_end_their_own_sequence() -> None:
    state = opened(ask(6, threshold=0.5), ask(6, threshold=0.5), ask(3))
    tick(state, 7, broken=1)
    assert state.num_response.tolist() == [0, -1, 0] and state.active.tolist() == [
        True,
        False,
        True,
    ]
    assert state.tokens[0, 6:8].tolist() == [7, 7] and state.raw_logprobs[0].isfinite().all()


def test_a_sub_block_that_opens_is_fed_whole() -> None:
    state = opened(ask(0, sub_block_size=2, strategy="static"))
    state.set(is_fresh=torch.tensor([False]))
    tick(state, 7)
    assert not state.is_fresh.any()
    tick(state, 7)
    assert state.is_fresh.all() and state.tokens[0, :4].tolist() == [7, 7, MASK, MASK]


@st.composite
def blocks_in_progress(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, bool]]]:
    """Draw a prompt length, `max_tokens`, and the current block's tokens with which are decided."""
    num_prompt = draw(st.integers(0, 6))
    num_new = 4 - num_prompt % 4
    index = st.tuples(st.sampled_from([0, 2, 3, 7]), st.sampled_from([True, True, True, False]))
    return (
        num_prompt,
        draw(st.integers(1, 6)),
        draw(st.lists(index, min_size=num_new, max_size=num_new)),
    )


@given(blocks_in_progress())
@example((0, 1, [(2, True), (0, True), (2, True), (7, False)]))
def test_ends_are_those_of_the_reference_sampler(
    case: tuple[int, int, list[tuple[int, bool]]],
) -> None:
    num_prompt, max_tokens, canvas = case
    stops = (0, 3)
    ids = [0] * num_prompt  # stop ids of the prompt do not count
    sampling = SamplingParams(max_tokens=max_tokens, stop_token_ids=stops)
    state = opened((ids, sampling), ask(0, block=8))
    place = slice(num_prompt, num_prompt + len(canvas))
    tokens = [token if done else MASK for token, done in canvas]
    state.tokens[0, place] = torch.tensor(tokens)
    is_open = torch.ones(2, 8, dtype=torch.bool)
    is_open[0, :4] = torch.tensor([False] * (num_prompt % 4) + [not done for _, done in canvas])
    num_response, is_stop = find_ends(state, is_open, torch.tensor([True, True]))
    expected = find_end(tokens, [done for _, done in canvas], sampling)
    found = (int(num_response[0]), "stop" if is_stop[0] else "length")
    assert (found if found[0] else None) == expected
    assert int(num_response[1]) == 0


def test_a_pass_that_denoises_nothing_ends_nothing() -> None:
    state = opened(([0, 0, 0, 0], SamplingParams(stop_token_ids=(0,), max_tokens=1)))
    num_response, _ = find_ends(state, torch.zeros(1, 4, dtype=torch.bool), torch.tensor([False]))
    assert num_response.tolist() == [0]


def test_a_state_with_more_room_holds_what_it_held() -> None:
    state = opened(ask(6), ask(3, stop_token_ids=(0, 9), top_k=3))
    tick(state, 7)
    wider = dict.fromkeys(PER_POSITION, 40) | {"stop_ids": 5, "table": 3}
    large = state.grown(6, wider)
    for name in COLUMNS:
        kept, own = getattr(large, name), getattr(state, name)
        assert len(kept) == 6 and kept.shape[1:] == (wider.get(name),) * (own.dim() - 1)
        assert torch.equal(kept[:2][..., : own.shape[-1]] if own.dim() > 1 else kept[:2], own), name
    assert large.sampling.top_k[:2].tolist() == [0, 3] and not large.active[2:].any()
    assert not hidden_positions(large, 4)[2:].any()


def test_sequences_are_put_where_there_is_room() -> None:
    state, one = opened(ask(6), ask(3), ask(9)), opened(ask(9, seed=5, top_p=0.5))
    before = {name: getattr(state, name).clone() for name in COLUMNS}
    one = one.grown(
        1, {n: getattr(state, n).shape[1] for n in (*PER_POSITION, "stop_ids", "table")}
    )
    state.put(torch.tensor([1]), one)
    for name in COLUMNS:
        now = getattr(state, name)
        assert torch.equal(now[[0, 2]], before[name][[0, 2]]), name
        assert torch.equal(now[1:2], getattr(one, name)), name
    assert state.sampling.seed.tolist() == [0, 5, 0] and state.sampling.top_p.tolist() == [
        1,
        0.5,
        1,
    ]


def test_every_column_has_a_row_per_sequence_index() -> None:
    assert {field.name for field in fields(SequenceState)} == {*COLUMNS, "sampling"}


def test_only_some_sequences_move_on() -> None:
    state = opened(ask(0), ask(5))
    state.set(step_in_block=torch.tensor([3, 2]))
    next_block(state, torch.tensor([True, False]), 4)
    assert state.start.tolist() == [4, 4]
    assert state.num_masks.tolist() == [4, 3]
    assert state.step_in_block.tolist() == [0, 2]


def test_the_last_block_of_a_canvas_may_be_short() -> None:
    state = opened(ask(3, max_tokens=6, threshold=0.5), spec=replace(SPEC, attention="full"))
    assert state.start.tolist() == [3] and state.num_masks.tolist() == [4]
    tick(state, 7, CANVAS)
    assert state.start.tolist() == [7] and state.num_masks.tolist() == [2]
    tick(state, 7, CANVAS)
    assert state.num_response.tolist() == [6] and state.tokens[0].tolist() == [5] * 3 + [7] * 6 + [
        MASK
    ]


def test_a_position_read_off_the_block_before_never_changes() -> None:
    state = opened(ask(6, edit_threshold=0.5), ask(8, edit_threshold=0.5))
    positions, in_block = block_positions(state, 4)
    assert may_change(state, positions, in_block, ALPHABET).sum(1).tolist() == [2, 4]
    assert may_change(state, positions, in_block, SHIFTED).sum(1).tolist() == [2, 3]


def test_a_canvas_ends_with_the_block_it_was_left_in() -> None:
    asks = [ask(6), ask(3, max_tokens=20)]
    state = opened(*asks)
    state.set(
        start=torch.tensor([8, 4]),
        num_response=torch.tensor([3, 2]),
        is_stop=torch.tensor([True, False]),
        forwards=torch.tensor([4, 5]),
    )
    state.tokens[0, 6:9] = torch.tensor([7, 8, 9])
    state.step_map[0, 6:9] = torch.tensor([1, 2, 3])
    state.logprobs[0, 6:9] = -1.5
    requests = [request_of(n, one) for n, one in enumerate(asks)]
    first, second = read_finished(state, [0, 1], requests, 3)
    assert isinstance(first, Trajectory) and isinstance(second, Trajectory)
    assert first.canvas_ids == (7, 8, 9, MASK, MASK, MASK) and first.response_ids == (7, 8, 9)
    assert first.step_map == (1, 2, 3, 0, 0, 0)
    assert first.behavior_logprobs == (-1.5,) * 3 + (0,) * 3
    assert (first.finish, first.num_forwards, first.policy_version) == ("stop", 4, 3)
    assert (second.finish, len(second.canvas_ids)) == ("length", 5)


def test_under_full_attention_the_canvas_is_what_was_asked_for() -> None:
    spec = replace(SPEC, attention="full")
    state = opened(ask(3, max_tokens=10), spec=spec)
    state.set(num_response=torch.tensor([2]))
    request = request_of(0, ask(3, max_tokens=10), spec)
    (one,) = read_finished(state, [0], [request], 0)
    assert isinstance(one, Trajectory) and len(one.canvas_ids) == 10


def test_logits_that_are_not_finite_are_an_error_that_names_the_request() -> None:
    state = opened(ask(3), ask(3))
    state.set(num_response=torch.tensor([4, -1]))
    state.step_map[1, 3] = 1
    requests = [request_of(n, ask(3)) for n in (5, 6)]
    fine, broken = read_finished(state, [0, 1], requests, 0)
    assert isinstance(fine, Trajectory) and isinstance(broken, ValueError)
    assert str(broken).startswith("request 6: the model's logits are not numbers")


def test_no_finished_sequence_gives_no_trajectory() -> None:
    assert read_finished(opened(ask(3)), [], [], 0) == []
