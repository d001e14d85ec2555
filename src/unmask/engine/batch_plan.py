"""What one forward pass feeds: which positions of which sequence, what each sees, and what is scored.

Under block-causal attention a sequence feeds from the first position its pages lack to the end of its
current block: for a new one that is its prompt and its first block, in the middle of a block the
block, after one the finished block (its commit) and the next. Under full attention it is the whole
canvas, or, with an approximate cache, the part around the block. A row sees the positions below its
`limit`: prefill, denoising, commit, fused commit, full attention and windows differ in nothing else.

A pass has a budget of rows. Sequences that are writing go first, then prompts, both in order of
arrival; the first prompt that does not fit is fed as far as it goes, in whole blocks.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from unmask.diffusion.conventions import Conventions
from unmask.diffusion.unmask import Block, Progress, open_now, quota
from unmask.engine.options import EngineParams
from unmask.engine.sequence_state import Slots, block_positions, hidden_slots, may_change


class Feed(NamedTuple):
    """What each sequence feeds; `(n,)` each.

    Attributes:
        first: first position fed.
        counts: positions fed, from there; 0 for a sequence that waits.
        limit: positions its rows see under full attention.
        denoises: whether its block is denoised, rather than only text before it fed.
    """

    first: Tensor
    counts: Tensor
    limit: Tensor
    denoises: Tensor


class Rows(NamedTuple):
    """The rows of one forward pass.

    Attributes:
        sequence: `(T,)` slot of each row, ascending.
        position: `(T,)` its absolute position.
        limit: `(T,)` it sees the positions below this; 0 for padding.
        starts: `(n,)` first row of each slot.
        counts: `(n,)` rows of each slot.
    """

    sequence: Tensor
    position: Tensor
    limit: Tensor
    starts: Tensor
    counts: Tensor


def plan_feed(slots: Slots, width: int, params: EngineParams, conventions: Conventions) -> Feed:
    """Choose what this tick feeds.

    Args:
        slots: the running sequences.
        width: widest block.
        params: of the engine.
        conventions: the model's.
    """
    if conventions.is_full:
        first, end, limit = _canvas_range(slots, params, conventions)
        return _fit(Feed(first, end - first, limit, slots.active), slots, params, is_whole=True)
    hidden = hidden_slots(slots, width)
    first, end = slots.cached, slots.start + slots.block
    if params.cache == "dual":
        first, end = _sub_block_range(slots, hidden, conventions)
    denoises = slots.active
    if not params.fuses_commit:
        denoises = denoises & (slots.cached == slots.start)
    end = torch.where(denoises, end, slots.start)
    if conventions.first_is_alone:
        # The first slot is read off the row before the block: the block's own rows can wait.
        alone = hidden[:, 0]
        first, end = torch.where(alone, slots.cached, first), torch.where(alone, slots.start, end)
        denoises = denoises | alone
    return _fit(Feed(first, end - first, end, denoises), slots, params, is_whole=False)


def _canvas_range(
    slots: Slots, params: EngineParams, conventions: Conventions
) -> tuple[Tensor, Tensor, Tensor]:
    """Return where a full-attention sequence feeds from and to, and how far it sees."""
    zero = torch.zeros_like(slots.start)
    whole = (zero, slots.canvas_end, slots.canvas_end)
    if params.cache == "exact":
        return whole
    # A shifted model reads a slot off the row before it.
    first = (slots.start - int(conventions.is_shifted)).clamp(min=0)
    block_end = torch.minimum(slots.start + slots.block, slots.canvas_end)
    window_end = torch.minimum(block_end + params.horizon, slots.canvas_end)
    parts = {
        "prefix": (first, slots.canvas_end, slots.canvas_end),
        "dual": (first, block_end, slots.canvas_end),
        "window": (first, window_end, window_end),
    }[params.cache]
    first, end, limit = (
        torch.where(slots.is_fresh, a, b) for a, b in zip(whole, parts, strict=True)
    )
    return first, end, limit


def _sub_block_range(
    slots: Slots, hidden: Tensor, conventions: Conventions
) -> tuple[Tensor, Tensor]:
    """Return where a block-causal sequence feeds from and to, when only the open sub-block is fed again."""
    column = torch.arange(hidden.shape[1], device=hidden.device)
    first_hidden = column.where(hidden, hidden.shape[1]).min(-1).values
    sub_block = slots.rules.sub_block
    first = slots.start + first_hidden // sub_block * sub_block
    end = torch.minimum(first + sub_block, slots.start + slots.block)
    # Edits and remasking score what is written as well, all over the block.
    is_whole = slots.is_fresh | ~hidden.any(-1) | slots.rules.revises
    if conventions.is_shifted:
        # Its first slot is read off the row before it: until that is written, the block is fed whole.
        is_whole = is_whole | (slots.start + first_hidden == first)
    return (
        torch.where(is_whole, slots.cached, first),
        torch.where(is_whole, slots.start + slots.block, end),
    )


def _fit(feed: Feed, slots: Slots, params: EngineParams, is_whole: bool) -> Feed:
    """Keep what the budget of rows holds.

    Args:
        feed: what every sequence would like to feed.
        slots: the running sequences.
        params: of the engine.
        is_whole: whether a sequence is fed whole or not at all.
    """
    wanted = feed.counts * slots.active
    pending = (slots.start - feed.first).clamp(min=0)
    is_prompt = (pending > slots.block) & (not is_whole)
    order = (is_prompt * (2**40) + slots.number).argsort(stable=True)
    before = torch.zeros_like(wanted).scatter(0, order, wanted[order].cumsum(0) - wanted[order])
    assert params.row_budget is not None
    room = (params.row_budget - before).clamp(min=0)
    # Whoever comes first is fed, a prompt at least by a block.
    least = torch.where(is_prompt, torch.minimum(slots.block, wanted), wanted)
    room = torch.where(before == 0, torch.maximum(room, least), room)
    fits = wanted <= room
    some = torch.minimum(room, pending) // slots.block * slots.block * (not is_whole)
    return feed._replace(
        counts=torch.where(fits, wanted, some), denoises=feed.denoises & fits & slots.active
    )


def plan_block(
    slots: Slots, feed: Feed, width: int, conventions: Conventions
) -> tuple[Block, Tensor]:
    """Return what this tick does to every current block, and `(n,)` the number of its next step."""
    positions, in_block = block_positions(slots, width)
    masked = hidden_slots(slots, width)
    hidden = open_now(masked, slots.rules) & feed.denoises[:, None]
    if conventions.first_is_alone:
        column = torch.arange(width, device=hidden.device)
        hidden = hidden & ((column == 0) | ~masked[:, :1])
    written = may_change(slots, positions, in_block, conventions) & ~masked
    progress = Progress(slots.num_masks, masked.sum(-1), slots.step_in_block)
    quotas, next_step = quota(progress, slots.rules)
    block = Block(
        tokens=slots.tokens.gather(1, positions),
        hidden=hidden,
        written=written & feed.denoises[:, None],
        positions=positions,
        taken=slots.step,
        quotas=quotas,
    )
    return block, torch.where(hidden.any(-1), next_step, slots.step_in_block)


def lay_rows(slots: Slots, feed: Feed, num_rows: int, is_full: bool) -> Rows:
    """Lay the fed positions of all sequences one after the other; rows past them are padding.

    Args:
        slots: the running sequences.
        feed: what they feed.
        num_rows: rows of the pass, at least as many as are fed.
        is_full: whether attention is.
    """
    ends = feed.counts.cumsum(0)
    starts = ends - feed.counts
    row = torch.arange(num_rows, device=ends.device)
    sequence = torch.searchsorted(ends, row, right=True).clamp(max=len(ends) - 1)
    is_real = row < ends[-1]
    position = (feed.first[sequence] + row - starts[sequence]).where(is_real, 0)
    block = slots.block[sequence]
    limit = feed.limit[sequence] if is_full else (position // block + 1) * block
    return Rows(sequence, position, limit.where(is_real, 0), starts, feed.counts)


class Scored(NamedTuple):
    """The slots whose logits a pass makes; `(S,)` each, padding included.

    Attributes:
        row: packed row that is read.
        sequence: slot of the engine it is for.
        column: column of its block, `K` for padding.
    """

    row: Tensor
    sequence: Tensor
    column: Tensor


def lay_scored(
    scored: Tensor, num_scored: int, slots: Slots, feed: Feed, rows: Rows, is_shifted: bool
) -> Scored:
    """Lay the scored slots `(n, K)` bool one after the other; what lies past them is padding.

    Args:
        scored: the slots.
        num_scored: rows to lay, at least as many as are scored.
        slots: the running sequences.
        feed: what they feed.
        rows: from `lay_rows`.
        is_shifted: whether a slot is read off the row before it.
    """
    place = torch.nonzero_static(scored.flatten(), size=num_scored, fill_value=-1)[:, 0]
    is_real = place >= 0
    sequence = (place // scored.shape[1]).where(is_real, 0)
    column = (place % scored.shape[1]).where(is_real, scored.shape[1])
    position = slots.start[sequence] + column - int(is_shifted)
    row = rows.starts[sequence] + position - feed.first[sequence]
    return Scored(row.where(is_real, 0), sequence, column)
