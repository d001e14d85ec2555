"""The state of the running sequences: one record of tensors, changed in place by `advance`.

The current block of a sequence starts at `start`, and its pages hold the clean keys and values of everything
before `cached`. What a tick feeds follows from these two (`engine/batch_plan.py`): the prompt, a block, or
a finished block together with the next one. A row of block k never sees block k + 1, so its keys equal
those of a separate commit.

Every column has one row per sequence index, used or not, and the columns per position end in one scrap
position that is never read: padding is written there. So shapes do not depend on what runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.constrained import Constraint, Span
from unmask.diffusion.conventions import Conventions
from unmask.diffusion.sampling_tensors import SamplingTensors, on_device
from unmask.diffusion.unmask import PINNED, Block, Reveal, open_now, reveal
from unmask.engine.pages import SCRAP
from unmask.engine.request import Request
from unmask.types import Revision, Trajectory


@dataclass(slots=True)
class SequenceState:
    """Rows for `n` running sequences; `L` positions, the last of them scrap.

    Attributes:
        tokens: `(n, L)` token ids, the mask id where nothing is revealed.
        step_map: `(n, L)` denoising step that revealed each; 0 for prompt and mask, `PINNED` for pinned.
        logprobs: `(n, L)` log-probability under the proposal when revealed.
        raw_logprobs: `(n, L)` log-probability under the model's own distribution when revealed.
        entropies: `(n, L)` entropy of that distribution.
        table: `(n, pages)` the pages of each sequence, in order.
        active: `(n,)` bool, whether the sequence runs.
        request_id: `(n,)` id of its request, ascending in the order of submission.
        num_prompt: `(n,)` `P`.
        max_tokens: `(n,)` most response tokens.
        first_end: `(n,)` first absolute position at which a stop token ends the response.
        canvas_end: `(n,)` end of the longest canvas it may have.
        stop_ids: `(n, stops)`, padded with -1.
        block: `(n,)`, `K` of each sequence.
        start: `(n,)` first position of the current block.
        cached: `(n,)` positions whose clean keys and values the pages hold.
        num_masks: `(n,)` masks of the current block before its first step.
        step: `(n,)` denoising steps taken.
        step_in_block: `(n,)` index of the next step in the current block's schedule.
        is_fresh: `(n,)` bool, whether the current block, or sub-block, has not been denoised yet.
        edits_left: `(n,)` passes that may still edit the block once it has no masks.
        forwards: `(n,)` forward passes taken.
        num_response: `(n,)` `R` once the response ended; 0 before, -1 where logits were not finite.
        is_stop: `(n,)` bool, whether a stop token or text ended it rather than `max_tokens`.
        guide: `(n,)` sequence index of the twin without its prompt that guides it; -1 without one.
        leader: `(n,)` sequence index of the one that it guides, whose tokens it takes; -1 without one.
        sampling: sampling parameters.
    """

    tokens: Tensor
    step_map: Tensor
    logprobs: Tensor
    raw_logprobs: Tensor
    entropies: Tensor
    table: Tensor
    active: Tensor
    request_id: Tensor
    num_prompt: Tensor
    max_tokens: Tensor
    first_end: Tensor
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
    forwards: Tensor
    num_response: Tensor
    is_stop: Tensor
    guide: Tensor
    leader: Tensor
    sampling: SamplingTensors

    def set(self, **columns: Tensor) -> None:
        """Overwrite columns, in place."""
        for name, values in columns.items():
            getattr(self, name).copy_(values)

    def put(self, index: Tensor, rows: "SequenceState") -> None:
        """Write the sequences of `rows` to the rows `index`, in place."""
        for name in COLUMNS:
            getattr(self, name).index_copy_(0, index, getattr(rows, name))
        self.sampling.put(index, rows.sampling)

    def grown(self, count: int, widths: Mapping[str, int]) -> "SequenceState":
        """Return a copy of the state with `count` rows and wider columns."""

        def pad(name: str) -> Tensor:
            column = getattr(self, name)
            more = [0, count - len(column)]
            if name in widths:
                more = [0, widths[name] - column.shape[1], *more]
            return F.pad(column, more, value=FILL.get(name, 0)) if any(more) else column.clone()

        columns = {name: pad(name) for name in COLUMNS}
        return SequenceState(**columns, sampling=self.sampling.grown(count))


COLUMNS = tuple(field.name for field in fields(SequenceState) if field.name != "sampling")
# The columns that become fields of a trajectory, one entry per position.
PER_POSITION = ("tokens", "step_map", "logprobs", "raw_logprobs", "entropies")
RESULTS = (*PER_POSITION, "start", "step", "forwards", "num_response", "is_stop")
# Padding where 0 would have a meaning: block sizes are divisors, and 0 is a token id.
FILL = {"block": 1, "stop_ids": -1, "guide": -1, "leader": -1}


def open_sequences(
    requests: Sequence[Request], widths: Mapping[str, int], conventions: Conventions
) -> SequenceState:
    """Return the state of new requests: prompt and pinned tokens in place, nothing cached, no pages.

    Args:
        requests: one per row.
        widths: of the two-dimensional columns `tokens` (scrap position included), `stop_ids`, `table`.
        conventions: the model's.
    """
    device, count = conventions.drawable.device, len(requests)

    def column(values: Sequence[int]) -> Tensor:
        return on_device(values, device)

    def rows(values: Sequence[Sequence[int]], width: int, fill: int) -> Tensor:
        padded = [[*row, *[fill] * (width - len(row))] for row in values]
        return on_device(padded, device).view(count, width)

    num_prompt = column([len(r.prompt.token_ids) for r in requests])
    block, start = column([r.block for r in requests]), column([r.first_block for r in requests])
    canvas_end = column([r.max_length for r in requests])
    no = torch.zeros_like(start, dtype=torch.bool)
    counters = ("cached", "step", "step_in_block", "forwards", "num_response")
    tokens = rows([r.token_ids for r in requests], widths["tokens"], conventions.mask_id)
    step_map = torch.zeros_like(tokens)
    pinned = [
        (row, len(r.prompt.token_ids) + position, token)
        for row, r in enumerate(requests)
        for position, token in r.sampling.pinned
    ]
    if pinned:
        row, position, token = on_device(pinned, device).T
        tokens[row, position], step_map[row, position] = token, PINNED
    num_pinned = [
        sum(len(r.prompt.token_ids) + p < r.first_block + r.block for p, _ in r.sampling.pinned)
        for r in requests
    ]
    sampling = SamplingTensors.of([r.sampling for r in requests], device)
    # fp64 holds the log-probabilities of a model of any number format; the memory is small.
    unwritten = torch.zeros(tokens.shape, dtype=torch.float64, device=device)
    measured = ("logprobs", "raw_logprobs", "entropies")
    return SequenceState(
        tokens=tokens,
        step_map=step_map,
        **dict.fromkeys(measured, unwritten),
        **dict.fromkeys(counters, torch.zeros_like(start)),
        table=torch.full((count, widths["table"]), SCRAP, dtype=torch.int64, device=device),
        active=~no,
        request_id=column([r.id for r in requests]),
        num_prompt=num_prompt,
        max_tokens=column([r.sampling.max_tokens for r in requests]),
        first_end=num_prompt + column([r.sampling.first_end for r in requests]),
        canvas_end=canvas_end,
        stop_ids=rows([r.sampling.stop_token_ids or () for r in requests], widths["stop_ids"], -1),
        block=block,
        start=start,
        num_masks=torch.minimum(start + block, canvas_end) - num_prompt - column(num_pinned),
        is_fresh=~no,
        edits_left=sampling.max_edit_steps,
        is_stop=no,
        guide=torch.full_like(start, -1),
        leader=torch.full_like(start, -1),
        sampling=sampling,
    )


def feed_again(state: SequenceState, preempted: Sequence[int]) -> None:
    """Let preempted sequences feed all their tokens again when they resume."""
    if preempted:
        index = on_device(preempted, state.start.device)
        state.cached[index] = 0
        state.is_fresh[index] = True
        state.active[index] = False


def block_positions(state: SequenceState, width: int) -> tuple[Tensor, Tensor]:
    """Return `(n, K)` positions of the current blocks, and `(n, K)` bool, which columns are in the block.

    `K` is the widest block; columns past a sequence's own block have the scrap position.
    """
    column = torch.arange(width, device=state.start.device)
    positions = state.start[:, None] + column
    in_block = (column < state.block[:, None]) & (positions < state.canvas_end[:, None])
    return torch.where(in_block, positions, state.tokens.shape[1] - 1), in_block


def hidden_positions(state: SequenceState, width: int) -> Tensor:
    """Return `(n, K)` bool: the positions of the current blocks that are still masked."""
    positions, in_block = block_positions(state, width)
    is_written = state.step_map.gather(1, positions) != 0
    is_response = positions >= state.num_prompt[:, None]
    return in_block & ~is_written & is_response & state.active[:, None]


def may_change(
    state: SequenceState, positions: Tensor, in_block: Tensor, conventions: Conventions
) -> Tensor:
    """Return `(n, K)` bool: the positions that a request which revises may write again.

    A position predicted by the block before is excluded: nothing written since changes its prediction.
    """
    is_pinned = state.step_map.gather(1, positions) == PINNED
    is_free = in_block & (positions >= state.num_prompt[:, None]) & ~is_pinned
    if conventions.first_is_alone:
        return is_free & (positions > state.start[:, None])
    return is_free


def open_spans(
    state: SequenceState, block: Block, constraints: Mapping[int, Constraint]
) -> dict[int, Span]:
    """Return the spans that this tick draws, by sequence index; waits for the device.

    Args:
        state: the running sequences.
        block: their current blocks.
        constraints: of the sequences whose output is structured.
    """
    spans: dict[int, Span] = {}
    for index, constraint in constraints.items():
        num_prompt = int(state.num_prompt[index])
        opened = (block.positions[index, block.hidden[index]] - num_prompt).tolist()
        end = torch.minimum(state.start[index] + state.block[index], state.canvas_end[index])
        tokens, steps = (x[index, num_prompt:end].tolist() for x in (state.tokens, state.step_map))
        span = constraint.span(tokens, steps, opened)
        if span is not None:
            spans[index] = span
    return spans


def advance(
    state: SequenceState,
    logits: Tensor,
    block: Block,
    is_fed: Tensor,
    rows: tuple[Tensor, Tensor],
    conventions: Conventions,
) -> None:
    """Take one denoising step: reveal tokens, find responses that ended, go on from finished blocks.

    A block of pinned tokens is finished by the pass that feeds it, which is no denoising step.

    Args:
        state: the running sequences, changed in place.
        logits: `(>= S, V)`, one row per scored position, then padding.
        block: the current blocks, from `batch_plan.plan_block`.
        is_fed: `(n,)` bool, the sequences whose current block is fed.
        rows: sequence index and column `(S,)` of each scored position.
        conventions: the model's.
    """
    width = block.hidden.shape[1]
    ids = conventions.drawable, conventions.codes
    result = reveal(logits, block, rows, state.sampling, *ids)
    if state.sampling.needs.guides:
        own = torch.arange(len(state.leader), device=state.leader.device)
        source = state.leader.where((state.leader >= 0) & state.active, own)
        result = Reveal(*(column.index_select(0, source) for column in result))
    denoises = block.hidden.any(-1) | (block.written.any(-1) & state.sampling.revises)
    write(state, result, block, conventions.mask_id)
    remaining = hidden_positions(state, width)
    # A sub-block is fed whole when it opens, like a block.
    opens = block.hidden.any(-1) & ~(open_now(remaining, state.sampling) & block.hidden).any(-1)
    state.set(step=state.step + denoises, is_fresh=state.is_fresh | opens)
    positions, in_block = block_positions(state, width)
    is_settled = state.edits_left == 0
    if state.sampling.needs.revises:
        is_settled |= ~may_change(state, positions, in_block, conventions).any(-1)
    is_finished = is_fed & ~remaining.any(-1) & is_settled
    may_end = torch.where(state.sampling.revises, is_finished, is_fed)
    num_response, is_stop = find_ends(state, remaining | ~in_block, may_end)
    is_broken = (result.chosen & ~result.raw_logprobs.isfinite()).any(-1)
    num_response = torch.where(is_broken, -1, num_response)
    state.set(
        # Keep the length of a finished sequence until the host has collected it.
        num_response=torch.where(state.num_response == 0, num_response, state.num_response),
        is_stop=state.is_stop | is_stop,
    )
    state.set(active=state.active & (state.num_response == 0))
    next_block(state, is_finished & state.active, width)


def write(state: SequenceState, result: Reveal, block: Block, mask_id: int) -> None:
    """Write a step's reveals, edits and new masks."""
    edited = (result.chosen & block.written).any(-1)
    is_settling = (block.written.any(-1) & ~block.hidden.any(-1)) & state.sampling.revises
    left = torch.where(edited, state.edits_left - 1, 0).clamp(min=0)
    steps = (state.step + 1)[:, None].expand(block.positions.shape)
    for name, values, empty in (
        ("tokens", result.tokens, mask_id),
        ("step_map", steps, 0),
        ("logprobs", result.logprobs, 0),
        ("raw_logprobs", result.raw_logprobs, 0),
        ("entropies", result.entropy, 0),
    ):
        column = getattr(state, name)  # (n, L)
        held = column.gather(1, block.positions)  # (n, K)
        new = torch.where(result.chosen, values.to(column.dtype), held)
        column.scatter_(1, block.positions, new.masked_fill(result.remasked, empty))
    state.set(edits_left=torch.where(is_settling, left, state.edits_left))


def find_ends(state: SequenceState, is_open: Tensor, may_end: Tensor) -> tuple[Tensor, Tensor]:
    """Return `(n,)` the lengths of responses that end now, 0 for the others, and which end at a stop token.

    A response ends at a stop token, or at `max_tokens`, once everything left of it is decided.

    Args:
        state: after this tick's reveals.
        is_open: `(n, K)` bool, columns that are undecided, or past the block.
        may_end: `(n,)` whether the response may end with this tick.
    """
    positions, _ = block_positions(state, is_open.shape[1])
    tokens = state.tokens.gather(1, positions)
    is_stop = (tokens[..., None] == state.stop_ids[:, None]).any(-1)  # (n, K, stops) -> (n, K)
    is_stop &= ~is_open & (positions >= state.first_end[:, None])
    first_open, first_stop = _leading_false(is_open), _leading_false(is_stop)
    room = state.num_prompt + state.max_tokens - state.start
    stops = may_end & (first_stop < first_open) & (first_stop < room)
    fills = may_end & (first_open >= room)
    at_stop = state.start + first_stop + 1 - state.num_prompt
    return torch.where(stops, at_stop, torch.where(fills, state.max_tokens, 0)), stops


def _leading_false(mask: Tensor) -> Tensor:
    """Return the number of False before the first True of each row."""
    return (~mask).long().cumprod(-1).sum(-1)


def next_block(state: SequenceState, moves: Tensor, width: int) -> None:
    """Advance the sequences `moves (n,)` bool to their next block, all masks except pinned tokens."""
    state.set(start=state.start + state.block * moves)
    num_masks = hidden_positions(state, width).sum(-1)
    state.set(
        num_masks=torch.where(moves, num_masks, state.num_masks),
        step_in_block=state.step_in_block.masked_fill(moves, 0),
        is_fresh=state.is_fresh | moves,
        edits_left=torch.where(moves, state.sampling.max_edit_steps, state.edits_left),
    )


def read_finished(
    state: SequenceState, indices: Sequence[int], requests: Sequence[Request], policy_version: int
) -> list[Trajectory | ValueError]:
    """Return the trajectories of sequences that ended; an error where the logits were not finite.

    Args:
        state: the running sequences.
        indices: sequence index of each.
        requests: of each.
        policy_version: of the weights that wrote them.
    """
    if not indices:
        return []
    index = on_device(indices, state.start.device)
    columns = {name: getattr(state, name).index_select(0, index).cpu() for name in RESULTS}
    rows = ({name: columns[name][row] for name in RESULTS} for row in range(len(indices)))
    return [_trajectory(*pair, policy_version) for pair in zip(requests, rows, strict=True)]


def with_record(
    result: Trajectory | ValueError,
    earlier: Sequence[tuple[int, int]],
    revisions: Sequence[Revision],
) -> Trajectory | ValueError:
    """Return a trajectory with its revisions, and the version of the weights that wrote each token.

    Args:
        result: from `read_finished`.
        earlier: the weights that were replaced while it ran, oldest first: their version, and the number
            of denoising steps taken when they were replaced.
        revisions: of the running sequence, in any order.
    """
    if isinstance(result, ValueError) or not (earlier or revisions):
        return result

    newest = result.policy_version

    def version_of(step: int) -> int | None:
        found = next((version for version, last in earlier if 0 < step <= last), newest)
        return None if found == newest else found

    ordered = sorted(revisions, key=lambda r: (r.step, r.position))
    result = replace(
        result, revisions=tuple(replace(r, policy_version=version_of(r.step)) for r in ordered)
    )
    versions = tuple(
        newest if (version := version_of(step)) is None else version for step in result.step_map
    )
    return result if set(versions) == {newest} else replace(result, policy_versions=versions)


def _trajectory(
    request: Request, row: dict[str, Tensor], policy_version: int
) -> Trajectory | ValueError:
    if row["num_response"] < 0:
        return ValueError(
            f"request {request.id}: the model's logits are not numbers (NaN or infinite) at "
            f"denoising step {int(row['step_map'].max())}; its weights, or its number format, "
            "are broken"
        )
    end = request.max_length if request.is_full else int(row["start"]) + request.block
    canvas = slice(len(request.prompt.token_ids), end)
    values = {name: tuple(row[name][canvas].tolist()) for name in PER_POSITION}
    values["step_map"] = tuple(max(step, 0) for step in values["step_map"])
    return Trajectory(
        prompt=request.prompt,
        canvas_ids=values["tokens"],
        step_map=values["step_map"],
        behavior_logprobs=values["logprobs"],
        num_response=int(row["num_response"]),
        finish="stop" if row["is_stop"] else "length",
        policy_version=policy_version,
        sampling=request.sampling,
        num_forwards=int(row["forwards"]) * len(request.members),
        num_steps=int(row["step"]),
        raw_logprobs=values["raw_logprobs"],
        entropies=values["entropies"],
    )
