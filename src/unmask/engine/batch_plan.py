"""The plan of one forward pass: the positions fed per sequence, what each row sees, and the scored rows.

Under block-causal attention a sequence feeds from the first position its pages lack to the end of its
current block: prompt and first block when it is new, the block while it is denoised, and the finished block
(its commit) with the next one afterwards. Under full attention it feeds the whole canvas, or, with an
approximate cache, the part around the block. A row sees the positions below its `limit`: prefill,
denoising, commit, fused commit, full attention and windows differ in limits only.

A pass has a budget of rows. Sequences that denoise go first, then prompts, both in order of arrival; the
first prompt that does not fit is fed in part, in whole blocks.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from unmask.diffusion.conventions import Conventions
from unmask.diffusion.unmask import Block, open_now, quota
from unmask.engine.options import EngineParams
from unmask.engine.sequence_state import (
    SequenceState,
    block_positions,
    hidden_positions,
    may_change,
)


class Feed(NamedTuple):
    """The positions each sequence feeds; `(n,)` each.

    Attributes:
        first: first position fed.
        counts: number of positions fed; 0 for a sequence that waits.
        limit: its rows see the positions below this under full attention.
        denoises: bool, whether its block is denoised; otherwise only clean tokens before it are fed.
    """

    first: Tensor
    counts: Tensor
    limit: Tensor
    denoises: Tensor


class Rows(NamedTuple):
    """The rows of one forward pass.

    Attributes:
        sequence: `(T,)` sequence index of each row, ascending.
        position: `(T,)` absolute position of each row.
        limit: `(T,)` each row sees the positions below this; 0 for padding.
        starts: `(n,)` first row of each sequence.
        counts: `(n,)` number of rows of each sequence.
        longest_run: bound on the rows of a sequence that have the same limit, which follow each other.
        most_runs: bound on the number of such runs in the pass.
    """

    sequence: Tensor
    position: Tensor
    limit: Tensor
    starts: Tensor
    counts: Tensor
    longest_run: int
    most_runs: int


def plan_feed(
    state: SequenceState, width: int, params: EngineParams, conventions: Conventions
) -> Feed:
    """Return the positions that this tick feeds.

    Args:
        state: the running sequences.
        width: widest block.
        params: of the engine.
        conventions: the model's.
    """
    if conventions.is_full:
        first, end, limit = _canvas_range(state, params, conventions)
        return _fit(Feed(first, end - first, limit, state.active), state, params, is_whole=True)
    hidden = hidden_positions(state, width)
    first, end = state.cached, state.start + state.block
    if params.cache == "dual":
        first, end = _sub_block_range(state, hidden, conventions)
    denoises = state.active
    if not params.fuses_commit:
        denoises = denoises & (state.cached == state.start)
    end = torch.where(denoises, end, state.start)
    if conventions.first_is_alone:
        # The first position is predicted by the row before the block, so the block itself is not fed yet.
        alone = hidden[:, 0]
        first, end = torch.where(alone, state.cached, first), torch.where(alone, state.start, end)
        denoises = denoises | alone
    return _fit(Feed(first, end - first, end, denoises), state, params, is_whole=False)


def _canvas_range(
    state: SequenceState, params: EngineParams, conventions: Conventions
) -> tuple[Tensor, Tensor, Tensor]:
    """Return first position, end and limit of what a full-attention sequence feeds."""
    zero = torch.zeros_like(state.start)
    whole = (zero, state.canvas_end, state.canvas_end)
    if params.cache == "exact":
        return whole
    # A shifted model predicts a position in the row before it.
    first = (state.start - int(conventions.is_shifted)).clamp(min=0)
    block_end = torch.minimum(state.start + state.block, state.canvas_end)
    window_end = torch.minimum(block_end + params.horizon, state.canvas_end)
    parts = {
        "prefix": (first, state.canvas_end, state.canvas_end),
        "dual": (first, block_end, state.canvas_end),
        "window": (first, window_end, window_end),
    }[params.cache]
    first, end, limit = (
        torch.where(state.is_fresh, a, b) for a, b in zip(whole, parts, strict=True)
    )
    return first, end, limit


def _sub_block_range(
    state: SequenceState, hidden: Tensor, conventions: Conventions
) -> tuple[Tensor, Tensor]:
    """Return first position and end of what a block-causal sequence feeds: the open sub-block again."""
    column = torch.arange(hidden.shape[1], device=hidden.device)
    first_hidden = column.where(hidden, hidden.shape[1]).min(-1).values
    sub_block = state.sampling.sub_block
    first = state.start + first_hidden // sub_block * sub_block
    end = torch.minimum(first + sub_block, state.start + state.block)
    # Edits and remasking score written positions too, in the whole block.
    is_whole = state.is_fresh | ~hidden.any(-1) | state.sampling.revises
    if conventions.is_shifted:
        # The sub-block's first position is predicted by the row before it: feed the whole block until
        # that position is written.
        is_whole = is_whole | (state.start + first_hidden == first)
    return (
        torch.where(is_whole, state.cached, first),
        torch.where(is_whole, state.start + state.block, end),
    )


def _fit(feed: Feed, state: SequenceState, params: EngineParams, is_whole: bool) -> Feed:
    """Return the part of a feed that fits the row budget.

    Args:
        feed: what every sequence would feed without a budget.
        state: the running sequences.
        params: of the engine.
        is_whole: whether a sequence is fed whole or not at all.
    """
    wanted = feed.counts * state.active
    pending = (state.start - feed.first).clamp(min=0)
    is_prompt = (pending > state.block) & (not is_whole)
    # Denoising sequences first, then prompts, each in order of arrival, a twin behind the sequence it guides.
    is_twin = state.leader >= 0
    order = (is_prompt * (2**41) + 2 * state.request_id + is_twin).argsort(stable=True)
    # Rows of all sequences that come earlier in this order: an exclusive sum, scattered back.
    before = torch.zeros_like(wanted).scatter(0, order, wanted[order].cumsum(0) - wanted[order])
    assert params.row_budget is not None
    room = (params.row_budget - before).clamp(min=0)
    # The first sequence is always fed, a prompt by at least one block.
    both = wanted + wanted[state.guide].where(state.guide >= 0, 0)  # with its twin
    least = torch.where(is_prompt, torch.minimum(state.block, wanted), both)
    room = torch.where(before == 0, torch.maximum(room, least), room)
    fits = both <= room
    fits = torch.where(is_twin, fits[state.leader], fits)
    some = torch.minimum(room, pending) // state.block * state.block * (not is_whole)
    return feed._replace(
        counts=torch.where(fits, wanted, some), denoises=feed.denoises & fits & state.active
    )


def plan_block(
    state: SequenceState, feed: Feed, width: int, conventions: Conventions
) -> tuple[Block, Tensor]:
    """Return the current blocks as this tick denoises them, and `(n,)` the index of the step after it."""
    positions, in_block = block_positions(state, width)
    masked = hidden_positions(state, width)
    hidden = open_now(masked, state.sampling) & feed.denoises[:, None]
    if conventions.first_is_alone:
        column = torch.arange(width, device=hidden.device)
        hidden = hidden & ((column == 0) | ~masked[:, :1])
    written = may_change(state, positions, in_block, conventions) & ~masked
    quotas, next_step = quota(state.num_masks, masked.sum(-1), state.step_in_block, state.sampling)
    block = Block(
        tokens=state.tokens.gather(1, positions),
        hidden=hidden,
        written=written & feed.denoises[:, None],
        positions=positions,
        taken=state.step,
        step=next_step,
        quotas=quotas,
        is_early=positions < (state.num_prompt + state.sampling.min_tokens)[:, None],
        stop_ids=state.stop_ids,
    )
    return block, torch.where(hidden.any(-1), next_step, state.step_in_block)


def lay_rows(
    state: SequenceState,
    feed: Feed,
    num_rows: int,
    is_full: bool,
    blocks: tuple[int, int] | None = None,
) -> Rows:
    """Lay the fed positions of all sequences one after the other; rows past them are padding.

    Args:
        state: the running sequences.
        feed: the positions they feed.
        num_rows: rows of the pass, at least as many as are fed.
        is_full: whether attention is.
        blocks: positions of the narrowest and of the widest block; without them the bounds hold for any.
    """
    ends = feed.counts.cumsum(0)
    starts = ends - feed.counts
    row = torch.arange(num_rows, device=ends.device)
    # The sequence of a row is the first whose rows end behind it; sequences without rows are skipped.
    sequence = torch.searchsorted(ends, row, right=True).clamp(max=len(ends) - 1)
    is_real = row < ends[-1]
    position = (feed.first[sequence] + row - starts[sequence]).where(is_real, 0)
    block = state.block[sequence]
    limit = feed.limit[sequence] if is_full else (position // block + 1) * block
    # Under block-causal attention a run is a block: sequences feed whole blocks from the grid on, or a
    # part of one. Under full attention it is a sequence.
    narrowest, widest = (num_rows, num_rows) if is_full else blocks or (1, num_rows)
    most_runs = min(num_rows, num_rows // narrowest + len(ends))
    limit = limit.where(is_real, 0)
    return Rows(sequence, position, limit, starts, feed.counts, min(widest, num_rows), most_runs)


class Scored(NamedTuple):
    """The positions whose logits a pass computes; `(S,)` each, padding included.

    Attributes:
        row: packed row that predicts the position.
        sequence: sequence index.
        column: column of its block, `K` for padding.
    """

    row: Tensor
    sequence: Tensor
    column: Tensor


def lay_scored(
    scored: Tensor, num_scored: int, state: SequenceState, feed: Feed, rows: Rows, is_shifted: bool
) -> Scored:
    """Lay the scored positions `(n, K)` bool one after the other; entries past them are padding.

    Args:
        scored: the positions.
        num_scored: entries to lay, at least as many as are scored.
        state: the running sequences.
        feed: the positions they feed.
        rows: from `lay_rows`.
        is_shifted: whether a position is predicted by the row before it.
    """
    # (S,) indices into the flattened (n, K) grid; a static size, so that nothing waits for the device.
    place = torch.nonzero_static(scored.flatten(), size=num_scored, fill_value=-1)[:, 0]
    is_real = place >= 0
    sequence = (place // scored.shape[1]).where(is_real, 0)
    column = (place % scored.shape[1]).where(is_real, scored.shape[1])
    position = state.start[sequence] + column - int(is_shifted)
    row = rows.starts[sequence] + position - feed.first[sequence]
    return Scored(row.where(is_real, 0), sequence, column)
