"""The state of running sequences: opened, joined, advanced, ended."""

from dataclasses import fields, replace
from typing import Any

import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tests.engine.states import MASK, ask, opened
from unmask.diffusion.sample import Alphabet, find_end
from unmask.engine.slots import (
    Slots,
    advance,
    block_positions,
    find_ends,
    hidden_slots,
    is_committing,
    join,
    next_block,
)
from unmask.types import SamplingParams

ALPHABET = Alphabet(MASK, torch.arange(24) != MASK)


def writes(slots: Slots, hidden: torch.Tensor, token: int) -> torch.Tensor:
    """Return logits that make every hidden slot `token`, surest on the left."""
    logits = torch.zeros(int(hidden.sum()), 24)
    _, column = hidden.nonzero(as_tuple=True)
    logits[:, token] = 20 - column.float()
    return logits


def tick(slots: Slots, token: int, fuses_commit: bool = True) -> tuple[Slots, Any]:
    hidden = hidden_slots(slots, fuses_commit)
    return advance(slots, writes(slots, hidden, token), hidden, ALPHABET)


def test_new_sequences_hold_their_prompt_and_a_first_block_of_masks() -> None:
    slots = opened(ask(6), ask(8), ask(0, block=2, max_tokens=3))
    assert slots.tokens.shape == (3, 16)
    assert slots.tokens[0].tolist() == [5] * 6 + [MASK] * 10
    assert slots.start.tolist() == [4, 8, 0]
    assert slots.num_masks.tolist() == [2, 4, 2]
    assert slots.cached.tolist() == [0, 0, 0]
    assert not slots.step_map.any() and not slots.logprobs.any()
    positions, in_block = block_positions(slots)
    assert positions.tolist() == [[4, 5, 6, 7], [8, 9, 10, 11], [0, 1, 0, 0]]
    assert in_block.sum(1).tolist() == [4, 4, 2]


def test_the_prompt_tail_is_never_hidden() -> None:
    slots = opened(([5, 5, 5, 5, 5, MASK], ask(0)[1]), ask(0, block=2))
    hidden = hidden_slots(slots, fuses_commit=True)
    assert hidden.tolist() == [[False, False, True, True], [True, True, False, False]]


def test_a_separate_commit_denoises_nothing() -> None:
    slots = opened(ask(6), ask(2, strategy="static"))
    assert is_committing(slots).tolist() == [True, False]
    assert hidden_slots(slots, fuses_commit=False).any(1).tolist() == [False, True]
    after, ends = tick(slots, 7, fuses_commit=False)
    assert after.cached.tolist() == [4, 0] and after.start.tolist() == [4, 0]
    assert after.step.tolist() == [0, 1] and after.forwards.tolist() == [1, 1]
    assert ends.num_response.tolist() == [0, 0]


def test_a_sequence_moves_on_when_its_block_is_full() -> None:
    slots = opened(ask(6, threshold=0.0), ask(6, strategy="static"))
    slots, _ = tick(slots, 7)
    assert slots.start.tolist() == [8, 4] and slots.cached.tolist() == [4, 4]
    assert slots.num_masks.tolist() == [4, 2] and slots.step_in_block.tolist() == [0, 1]
    assert slots.step_map[0, 6:8].tolist() == [1, 1]
    assert slots.tokens[1, 6:8].tolist() == [7, MASK]
    slots, _ = tick(slots, 8)
    assert slots.step_map[0, 8:12].tolist() == [2] * 4
    assert slots.tokens[1, 6:8].tolist() == [7, 8] and slots.step_map[1, 6:8].tolist() == [1, 2]
    assert slots.cached.tolist() == [8, 4] and slots.start.tolist() == [12, 8]


def test_a_sequence_that_ended_stays_in_its_block() -> None:
    slots, ends = tick(opened(ask(6, threshold=0.0, max_tokens=2)), 7)
    assert ends.num_response.tolist() == [2] and ends.is_stop.tolist() == [False]
    assert slots.start.tolist() == [4]


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
    ends = find_ends(slots, is_open, torch.tensor([True, True]))
    expected = find_end(tokens, [done for _, done in canvas], sampling)
    found = (int(ends.num_response[0]), "stop" if ends.is_stop[0] else "length")
    assert (found if found[0] else None) == expected
    assert int(ends.num_response[1]) == 0


def test_a_pass_that_denoises_nothing_ends_nothing() -> None:
    slots = opened(([0, 0, 0, 0], SamplingParams(stop_token_ids=(0,), max_tokens=1)))
    ends = find_ends(slots, torch.zeros(1, 4, dtype=torch.bool), torch.tensor([False]))
    assert ends.num_response.tolist() == [0]


def test_joined_sequences_keep_their_state() -> None:
    first, _ = tick(opened(ask(6), ask(3, max_tokens=20, stop_token_ids=(0, 9))), 7)
    second = opened(ask(11, block=2, stop_token_ids=(), top_k=3))
    both = join(first, second, MASK)
    assert both.tokens.shape[1] == max(first.tokens.shape[1], second.tokens.shape[1])
    assert both.stop_ids.tolist() == [[0, -1], [0, 9], [-1, -1]]
    assert both.rules.has_filters
    for part, rows in ((first, [0, 1]), (second, [2])):
        again = both.take(torch.tensor(rows))
        for field in fields(Slots):
            if field.name in ("rules", "stop_ids"):
                continue
            kept, own = getattr(again, field.name), getattr(part, field.name)
            assert torch.equal(kept[..., : own.shape[-1]], own), field.name
        assert torch.equal(again.rules.top_k, part.rules.top_k)


def test_only_some_sequences_move_on() -> None:
    slots = replace(opened(ask(0), ask(5)), step_in_block=torch.tensor([3, 2]))
    moved = next_block(slots, torch.tensor([True, False]))
    assert moved.start.tolist() == [4, 4]
    assert moved.num_masks.tolist() == [4, 3]
    assert moved.step_in_block.tolist() == [0, 2]
