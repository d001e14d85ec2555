"""The state of running sequences: opened, put in place, advanced, ended."""

from dataclasses import fields, replace

import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from tests.engine.states import ALPHABET, CANVAS, MASK, SHIFTED, ask, opened
from tests.toy import SPEC
from unmask.diffusion.conventions import Conventions
from unmask.diffusion.reference_sampler import find_end
from unmask.diffusion.unmask import Block
from unmask.engine.batch_plan import plan_block, plan_feed
from unmask.engine.options import EngineParams
from unmask.engine.sequence_state import (
    COLUMNS,
    TEXTS,
    Slots,
    advance,
    block_positions,
    find_ends,
    hidden_slots,
    may_change,
    next_block,
)
from unmask.types import SamplingParams


def writes(block: Block, token: int, broken: int = -1) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return logits that make every scored slot `token`, surest on the left; sequence `broken` gets NaN."""
    sequence, column = block.hidden.nonzero(as_tuple=True)
    logits = torch.zeros(len(sequence), 24)
    logits[:, token] = 20 - column.float()
    logits[sequence == broken] = torch.nan
    return logits, (sequence, column)


def tick(slots: Slots, token: int, conventions: Conventions = ALPHABET, broken: int = -1) -> None:
    width = int(slots.block.max())
    feed = plan_feed(slots, width, EngineParams(row_budget=10**6), conventions)
    block, next_step = plan_block(slots, feed, width, conventions)
    logits, rows = writes(block, token, broken)
    slots.set(step_in_block=next_step)
    advance(slots, logits, block, rows, conventions)


def test_new_sequences_hold_their_prompt_and_a_first_block_of_masks() -> None:
    slots = opened(ask(6), ask(8), ask(0, block=2, max_tokens=3))
    assert slots.tokens.shape == (3, 17), "one place more, for scrap"
    assert slots.tokens[0].tolist() == [5] * 6 + [MASK] * 11
    assert slots.start.tolist() == [4, 8, 0]
    assert slots.num_masks.tolist() == [2, 4, 2]
    assert slots.canvas_end.tolist() == [16, 16, 4]
    assert slots.cached.tolist() == [0, 0, 0] and slots.active.all() and slots.is_fresh.all()
    assert not slots.step_map.any() and not slots.logprobs.any()
    positions, in_block = block_positions(slots, 4)
    assert positions.tolist() == [[4, 5, 6, 7], [8, 9, 10, 11], [0, 1, 16, 16]]
    assert in_block.sum(1).tolist() == [4, 4, 2]


def test_the_prompt_tail_is_never_hidden() -> None:
    slots = opened(([5, 5, 5, 5, 5, MASK], ask(0)[1]), ask(0, block=2))
    hidden = hidden_slots(slots, 4)
    assert hidden.tolist() == [[False, False, True, True], [True, True, False, False]]


def test_a_slot_that_is_not_used_has_nothing_hidden() -> None:
    slots = opened(ask(6), ask(0))
    slots.active[0] = False
    assert not hidden_slots(slots, 4)[0].any() and hidden_slots(slots, 4)[1].all()


def test_a_sequence_moves_on_when_its_block_is_full() -> None:
    slots = opened(ask(6, threshold=0.5), ask(6, strategy="static"))
    tick(slots, 7)
    assert slots.start.tolist() == [8, 4] and slots.num_masks.tolist() == [4, 2]
    assert slots.step_in_block.tolist() == [0, 1] and slots.is_fresh.tolist() == [True, True]
    assert slots.step_map[0, 6:8].tolist() == [1, 1]
    assert slots.tokens[1, 6:8].tolist() == [7, MASK]
    tick(slots, 8)
    assert slots.step_map[0, 8:12].tolist() == [2] * 4
    assert slots.tokens[1, 6:8].tolist() == [7, 8] and slots.step_map[1, 6:8].tolist() == [1, 2]
    assert slots.start.tolist() == [12, 8]


def test_nothing_is_written_outside_the_block() -> None:
    slots = opened(ask(6, strategy="static"), ask(3, block=2, threshold=0.5))
    tick(slots, 7)
    assert slots.tokens[0].tolist() == [5] * 6 + [7] + [MASK] * 10
    assert slots.tokens[1, :4].tolist() == [5, 5, 5, 7]
    assert (slots.tokens[1, 4:] == MASK).all()


def test_a_sequence_that_ended_stays_in_its_block() -> None:
    slots = opened(ask(6, threshold=0.5, max_tokens=2))
    tick(slots, 7)
    assert slots.num_response.tolist() == [2] and not slots.is_stop.any()
    assert slots.start.tolist() == [4] and not slots.active.any()


def test_logits_that_are_not_numbers_end_their_own_sequence() -> None:
    slots = opened(ask(6, threshold=0.5), ask(6, threshold=0.5), ask(3))
    tick(slots, 7, broken=1)
    assert slots.num_response.tolist() == [0, -1, 0] and slots.active.tolist() == [
        True,
        False,
        True,
    ]
    assert slots.tokens[0, 6:8].tolist() == [7, 7] and slots.raw_logprobs[0].isfinite().all()


def test_a_sub_block_that_opens_is_fed_whole() -> None:
    slots = opened(ask(0, sub_block_size=2, strategy="static"))
    slots.set(is_fresh=torch.tensor([False]))
    tick(slots, 7)
    assert not slots.is_fresh.any()
    tick(slots, 7)
    assert slots.is_fresh.all() and slots.tokens[0, :4].tolist() == [7, 7, MASK, MASK]


@st.composite
def blocks_in_progress(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, bool]]]:
    """Draw a prompt length, `max_tokens`, and the current block's tokens with which are decided."""
    num_prompt = draw(st.integers(0, 6))
    num_new = 4 - num_prompt % 4
    slot = st.tuples(st.sampled_from([0, 2, 3, 7]), st.sampled_from([True, True, True, False]))
    return (
        num_prompt,
        draw(st.integers(1, 6)),
        draw(st.lists(slot, min_size=num_new, max_size=num_new)),
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
    slots = opened((ids, sampling), ask(0, block=8))
    place = slice(num_prompt, num_prompt + len(canvas))
    tokens = [token if done else MASK for token, done in canvas]
    slots.tokens[0, place] = torch.tensor(tokens)
    is_open = torch.ones(2, 8, dtype=torch.bool)
    is_open[0, :4] = torch.tensor([False] * (num_prompt % 4) + [not done for _, done in canvas])
    num_response, is_stop = find_ends(slots, is_open, torch.tensor([True, True]))
    expected = find_end(tokens, [done for _, done in canvas], sampling)
    found = (int(num_response[0]), "stop" if is_stop[0] else "length")
    assert (found if found[0] else None) == expected
    assert int(num_response[1]) == 0


def test_a_pass_that_denoises_nothing_ends_nothing() -> None:
    slots = opened(([0, 0, 0, 0], SamplingParams(stop_token_ids=(0,), max_tokens=1)))
    num_response, _ = find_ends(slots, torch.zeros(1, 4, dtype=torch.bool), torch.tensor([False]))
    assert num_response.tolist() == [0]


def test_a_state_with_more_room_holds_what_it_held() -> None:
    slots = opened(ask(6), ask(3, stop_token_ids=(0, 9), top_k=3))
    tick(slots, 7)
    wider = dict.fromkeys(TEXTS, 40) | {"stop_ids": 5, "table": 3}
    large = slots.grown(6, wider)
    for name in COLUMNS:
        kept, own = getattr(large, name), getattr(slots, name)
        assert len(kept) == 6 and kept.shape[1:] == (wider.get(name),) * (own.dim() - 1)
        assert torch.equal(kept[:2][..., : own.shape[-1]] if own.dim() > 1 else kept[:2], own), name
    assert large.rules.top_k[:2].tolist() == [0, 3] and not large.active[2:].any()
    assert not hidden_slots(large, 4)[2:].any()


def test_sequences_are_put_where_there_is_room() -> None:
    slots, one = opened(ask(6), ask(3), ask(9)), opened(ask(9, seed=5, top_p=0.5))
    before = {name: getattr(slots, name).clone() for name in COLUMNS}
    one = one.grown(1, {n: getattr(slots, n).shape[1] for n in (*TEXTS, "stop_ids", "table")})
    slots.put(torch.tensor([1]), one)
    for name in COLUMNS:
        now = getattr(slots, name)
        assert torch.equal(now[[0, 2]], before[name][[0, 2]]), name
        assert torch.equal(now[1:2], getattr(one, name)), name
    assert slots.rules.seed.tolist() == [0, 5, 0] and slots.rules.top_p.tolist() == [1, 0.5, 1]


def test_every_column_is_a_tensor_of_slots() -> None:
    assert {field.name for field in fields(Slots)} == {*COLUMNS, "rules"}


def test_only_some_sequences_move_on() -> None:
    slots = opened(ask(0), ask(5))
    slots.set(step_in_block=torch.tensor([3, 2]))
    next_block(slots, torch.tensor([True, False]))
    assert slots.start.tolist() == [4, 4]
    assert slots.num_masks.tolist() == [4, 3]
    assert slots.step_in_block.tolist() == [0, 2]


def test_the_last_block_of_a_canvas_may_be_short() -> None:
    slots = opened(ask(3, max_tokens=6, threshold=0.5), spec=replace(SPEC, attention="full"))
    assert slots.start.tolist() == [3] and slots.num_masks.tolist() == [4]
    tick(slots, 7, CANVAS)
    assert slots.start.tolist() == [7] and slots.num_masks.tolist() == [2]
    tick(slots, 7, CANVAS)
    assert slots.num_response.tolist() == [6] and slots.tokens[0].tolist() == [5] * 3 + [7] * 6 + [
        MASK
    ]


def test_a_slot_read_off_the_block_before_never_changes() -> None:
    slots = opened(ask(6, edit_threshold=0.5), ask(8, edit_threshold=0.5))
    positions, in_block = block_positions(slots, 4)
    assert may_change(slots, positions, in_block, ALPHABET).sum(1).tolist() == [2, 4]
    assert may_change(slots, positions, in_block, SHIFTED).sum(1).tolist() == [2, 3]
