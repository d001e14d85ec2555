"""The state of the running sequences: one record of tensors, changed in place by one function.

A sequence stands in one place only: its current block starts at `start`, and its pages hold the clean
keys and values of everything before `cached`. What a tick feeds follows from that (`engine/batch_plan.py`):
the prompt, a block, or a finished block together with the next one. A row of block k never sees
block k + 1, so its keys equal those of a commit of its own.

Every column has as many rows as there are slots, used or not, and the text columns end in one place
that is never read: what has nowhere to go is written there. So shapes do not depend on what runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.conventions import Conventions
from unmask.diffusion.sampling_tensors import Rules
from unmask.diffusion.unmask import Block, Reveal, open_now, reveal
from unmask.engine.pages import SCRAP
from unmask.engine.request import Request


@dataclass(slots=True)
class Slots:
    """`n` places for running sequences; `L` positions, one of them for scrap.

    Attributes:
        tokens: `(n, L)` token ids, the mask id where nothing is revealed.
        step_map: `(n, L)` denoising step that revealed each; 0 for prompt and mask.
        logprobs: `(n, L)` log-probability when revealed, under the proposal.
        raw_logprobs: `(n, L)` the same under the model's own distribution.
        entropies: `(n, L)` entropy of that distribution.
        table: `(n, pages)` the pages of each sequence, in order.
        active: `(n,)` bool, whether a sequence runs here.
        number: `(n,)` its request's number: lower came first.
        num_prompt: `(n,)`.
        max_tokens: `(n,)`.
        canvas_end: `(n,)` where the canvas ends at the latest.
        stop_ids: `(n, stops)`, padded with -1.
        block: `(n,)`, `K` of each sequence.
        start: `(n,)` first position of the current block.
        cached: `(n,)` positions whose clean keys and values the pages hold.
        num_masks: `(n,)` masks of the current block when it began.
        step: `(n,)` denoising steps taken.
        step_in_block: `(n,)` number of the next step of the current block's schedule.
        is_fresh: `(n,)` bool, whether the current block, or sub-block, has not been denoised yet.
        edits_left: `(n,)` passes that may still edit the block once it has no masks.
        revised: `(n,)` bool, whether a written token changed.
        forwards: `(n,)` forward passes taken.
        num_response: `(n,)` tokens of the response once it ended; 0 before, -1 where logits were not
            numbers.
        is_stop: `(n,)` bool, whether a stop token ended it, not `max_tokens`.
        rules: sampling parameters.
    """

    tokens: Tensor
    step_map: Tensor
    logprobs: Tensor
    raw_logprobs: Tensor
    entropies: Tensor
    table: Tensor
    active: Tensor
    number: Tensor
    num_prompt: Tensor
    max_tokens: Tensor
    canvas_end: Tensor
    stop_ids: Tensor
    block: Tensor
    start: Tensor
    cached: Tensor
    num_masks: Tensor
    step: Tensor
    step_in_block: Tensor
    is_fresh: Tensor
    edits_left: Tensor
    revised: Tensor
    forwards: Tensor
    num_response: Tensor
    is_stop: Tensor
    rules: Rules

    def set(self, **columns: Tensor) -> None:
        """Replace columns by new values, in place."""
        for name, values in columns.items():
            getattr(self, name).copy_(values)

    def put(self, index: Tensor, rows: "Slots") -> None:
        """Put the sequences of `rows` into the slots `index`."""
        for name in COLUMNS:
            getattr(self, name).index_copy_(0, index, getattr(rows, name))
        self.rules.put(index, rows.rules)

    def grown(self, count: int, widths: Mapping[str, int]) -> "Slots":
        """Return a copy of the state, with room for more slots and wider columns."""

        def pad(name: str) -> Tensor:
            column = getattr(self, name)
            more = [0, count - len(column)]
            if name in widths:
                more = [0, widths[name] - column.shape[1], *more]
            return F.pad(column, more, value=FILL.get(name, 0)) if any(more) else column.clone()

        columns = {name: pad(name) for name in COLUMNS}
        return Slots(**columns, rules=self.rules.grown(count))


COLUMNS = tuple(field.name for field in fields(Slots) if field.name != "rules")
TEXTS = ("tokens", "step_map", "logprobs", "raw_logprobs", "entropies")
# What new room holds where 0 would mean something: block sizes are divided by, and token 0 is a token.
FILL = {"block": 1, "stop_ids": -1}


def open_slots(
    requests: Sequence[Request], widths: Mapping[str, int], conventions: Conventions
) -> Slots:
    """Return the state of new requests: prompt in place, first block masked, nothing cached, no pages.

    Args:
        requests: one per row.
        widths: of the columns that have one: `tokens` (with the scrap place), `stop_ids`, `table`.
        conventions: the model's.
    """
    device, count = conventions.drawable.device, len(requests)

    def column(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    def rows(values: Sequence[Sequence[int]], width: int, fill: int) -> Tensor:
        padded = [[*row, *[fill] * (width - len(row))] for row in values]
        return torch.tensor(padded, dtype=torch.int64, device=device).view(count, width)

    num_prompt = column([len(r.prompt.token_ids) for r in requests])
    block, start = column([r.block for r in requests]), column([r.first_block for r in requests])
    canvas_end = column([r.max_length for r in requests])
    zero, no = torch.zeros_like(start), torch.zeros_like(start, dtype=torch.bool)
    tokens = rows([r.prompt.token_ids for r in requests], widths["tokens"], conventions.mask_id)
    rules = Rules.of([r.sampling for r in requests], device)
    # Log-probabilities keep the widest number format a model may have; the memory is small.
    unwritten = torch.zeros(tokens.shape, dtype=torch.float64, device=device)
    return Slots(
        tokens=tokens,
        step_map=torch.zeros_like(tokens),
        logprobs=unwritten,
        raw_logprobs=unwritten,
        entropies=unwritten,
        table=torch.full((count, widths["table"]), SCRAP, dtype=torch.int64, device=device),
        active=~no,
        number=column([r.number for r in requests]),
        num_prompt=num_prompt,
        max_tokens=column([r.sampling.max_tokens for r in requests]),
        canvas_end=canvas_end,
        stop_ids=rows([r.sampling.stop_token_ids or () for r in requests], widths["stop_ids"], -1),
        block=block,
        start=start,
        cached=zero,
        num_masks=torch.minimum(start + block, canvas_end) - num_prompt,
        step=zero,
        step_in_block=zero,
        is_fresh=~no,
        edits_left=rules.max_edit_steps,
        revised=no,
        forwards=zero,
        num_response=zero,
        is_stop=no,
        rules=rules,
    )


def block_positions(slots: Slots, width: int) -> tuple[Tensor, Tensor]:
    """Return `(n, K)` positions of the current blocks, and which columns belong to each sequence's own block.

    Other columns are at the scrap place.
    """
    column = torch.arange(width, device=slots.start.device)
    positions = slots.start[:, None] + column
    in_block = (column < slots.block[:, None]) & (positions < slots.canvas_end[:, None])
    return torch.where(in_block, positions, slots.tokens.shape[1] - 1), in_block


def hidden_slots(slots: Slots, width: int) -> Tensor:
    """Return `(n, K)` bool: the slots of the current blocks that are still masked."""
    positions, in_block = block_positions(slots, width)
    is_written = slots.step_map.gather(1, positions) > 0
    is_response = positions >= slots.num_prompt[:, None]
    return in_block & ~is_written & is_response & slots.active[:, None]


def may_change(
    slots: Slots, positions: Tensor, in_block: Tensor, conventions: Conventions
) -> Tensor:
    """Return `(n, K)` bool: the slots that a request which revises may write again.

    A slot that is read off the block before depends on nothing written since.
    """
    is_response = in_block & (positions >= slots.num_prompt[:, None])
    if conventions.first_is_alone:
        return is_response & (positions > slots.start[:, None])
    return is_response


def advance(
    slots: Slots,
    logits: Tensor,
    block: Block,
    rows: tuple[Tensor, Tensor],
    conventions: Conventions,
) -> None:
    """Take one denoising step: reveal slots, find responses that ended, move on from finished blocks.

    Args:
        slots: changed in place.
        logits: `(>= S, V)`, one row per scored slot.
        block: the current blocks, from `feed.plan_block`.
        rows: the slot and the column `(S,)` of each scored slot.
        conventions: the model's.
    """
    width = block.hidden.shape[1]
    result = reveal(logits, block, rows, slots.rules, conventions.drawable)
    denoises = block.hidden.any(-1) | (block.written.any(-1) & slots.rules.revises)
    write(slots, result, block, conventions.mask_id)
    remaining = hidden_slots(slots, width)
    # A sub-block that opens is fed whole, like a block.
    opens = block.hidden.any(-1) & ~(open_now(remaining, slots.rules) & block.hidden).any(-1)
    slots.set(step=slots.step + denoises, is_fresh=slots.is_fresh | opens)
    positions, in_block = block_positions(slots, width)
    is_settled = slots.edits_left == 0
    if slots.rules.needs.revises:
        is_settled |= ~may_change(slots, positions, in_block, conventions).any(-1)
    is_finished = denoises & ~remaining.any(-1) & is_settled
    may_end = torch.where(slots.rules.revises, is_finished, denoises)
    num_response, is_stop = find_ends(slots, remaining | ~in_block, may_end)
    is_broken = (result.chosen & ~result.raw_logprobs.isfinite()).any(-1)
    num_response = torch.where(is_broken, -1, num_response)
    slots.set(
        # What was said of a sequence that ended stays, until somebody has read it.
        num_response=torch.where(slots.num_response == 0, num_response, slots.num_response),
        is_stop=slots.is_stop | is_stop,
    )
    slots.set(active=slots.active & (slots.num_response == 0))
    next_block(slots, is_finished & slots.active)


def write(slots: Slots, result: Reveal, block: Block, mask_id: int) -> None:
    """Put a step's reveals, edits and masks in place."""
    edited = (result.chosen & block.written).any(-1)
    is_settling = (block.written.any(-1) & ~block.hidden.any(-1)) & slots.rules.revises
    left = torch.where(edited, slots.edits_left - 1, 0).clamp(min=0)
    steps = (slots.step + 1)[:, None].expand(block.positions.shape)
    for name, values, empty in (
        ("tokens", result.tokens, mask_id),
        ("step_map", steps, 0),
        ("logprobs", result.logprobs, 0),
        ("raw_logprobs", result.raw_logprobs, 0),
        ("entropies", result.entropy, 0),
    ):
        text = getattr(slots, name)
        held = text.gather(1, block.positions)
        new = torch.where(result.chosen, values.to(text.dtype), held)
        text.scatter_(1, block.positions, new.masked_fill(result.remasked, empty))
    slots.set(
        edits_left=torch.where(is_settling, left, slots.edits_left),
        revised=slots.revised | edited | result.remasked.any(-1),
    )


def find_ends(slots: Slots, is_open: Tensor, may_end: Tensor) -> tuple[Tensor, Tensor]:
    """Return `(n,)` the length of responses that end now, 0 for the others, and whether at a stop token.

    A response ends at a stop token, or at `max_tokens`, with everything left of it decided.

    Args:
        slots: after this tick's reveals.
        is_open: `(n, K)` columns of the block that are undecided, or past it.
        may_end: `(n,)` whether the response may end with this tick.
    """
    positions, _ = block_positions(slots, is_open.shape[1])
    tokens = slots.tokens.gather(1, positions)
    is_stop = (tokens[..., None] == slots.stop_ids[:, None]).any(-1)
    is_stop &= ~is_open & (positions >= slots.num_prompt[:, None])
    first_open, first_stop = _leading_false(is_open), _leading_false(is_stop)
    room = slots.num_prompt + slots.max_tokens - slots.start
    stops = may_end & (first_stop < first_open) & (first_stop < room)
    fills = may_end & (first_open >= room)
    at_stop = slots.start + first_stop + 1 - slots.num_prompt
    return torch.where(stops, at_stop, torch.where(fills, slots.max_tokens, 0)), stops


def _leading_false(mask: Tensor) -> Tensor:
    """Return how many False stand before the first True of each row."""
    return (~mask).long().cumprod(-1).sum(-1)


def next_block(slots: Slots, moves: Tensor) -> None:
    """Move the sequences `moves (n,)` on to their next block, all masks."""
    start = slots.start + slots.block * moves
    num_masks = torch.minimum(slots.block, slots.canvas_end - start)
    slots.set(
        start=start,
        num_masks=torch.where(moves, num_masks, slots.num_masks),
        step_in_block=slots.step_in_block.masked_fill(moves, 0),
        is_fresh=slots.is_fresh | moves,
        edits_left=torch.where(moves, slots.rules.max_edit_steps, slots.edits_left),
    )
