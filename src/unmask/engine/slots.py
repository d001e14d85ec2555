"""The state of the running sequences: one record of tensors, changed by one pure function.

A sequence stands in one place only: its current block starts at `start`, and the cache holds the
clean keys and values of everything before `cached`. A tick feeds `[cached, start + K)`. That one
rule is prefill plus first denoise for a new sequence, denoise in the middle of a block, and the
fused commit after one: a row of block k never sees block k + 1, so its keys equal those of a commit
of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.sample import Alphabet
from unmask.diffusion.unmask import Rules, quota, reveal
from unmask.engine.request import Request


@dataclass(frozen=True, slots=True)
class Slots:
    """`B` running sequences.

    Attributes:
        tokens: `(B, L)` token ids, the mask id where nothing is revealed.
        step_map: `(B, L)` denoising step that revealed each; 0 for prompt and mask.
        logprobs: `(B, L)` float64, log-probability when revealed.
        page: `(B,)` page of the cache.
        num_prompt: `(B,)`.
        max_tokens: `(B,)`.
        stop_ids: `(B, stops)`, padded with -1.
        block: `(B,)`, `K` of each sequence.
        start: `(B,)` first position of the current block.
        cached: `(B,)` positions whose clean keys and values the cache holds.
        num_masks: `(B,)` masks of the current block when it began.
        step: `(B,)` denoising steps taken.
        step_in_block: `(B,)` of them, in the current block.
        forwards: `(B,)` forward passes taken.
        rules: sampling parameters.
    """

    tokens: Tensor
    step_map: Tensor
    logprobs: Tensor
    page: Tensor
    num_prompt: Tensor
    max_tokens: Tensor
    stop_ids: Tensor
    block: Tensor
    start: Tensor
    cached: Tensor
    num_masks: Tensor
    step: Tensor
    step_in_block: Tensor
    forwards: Tensor
    rules: Rules

    def take(self, index: Tensor) -> "Slots":
        """Return the sequences `index`, in that order."""
        return self._map(lambda column: column.index_select(0, index), self.rules.take(index))

    def to(self, device: torch.device) -> "Slots":
        """Return the state on another device; the rules stay where they are."""
        return self._map(lambda column: column.to(device), self.rules)

    def _map(self, change: Callable[[Tensor], Tensor], rules: Rules) -> "Slots":
        names = [field.name for field in fields(self) if field.name != "rules"]
        return Slots(**{name: change(getattr(self, name)) for name in names}, rules=rules)


class Ends(NamedTuple):
    """What a tick finished; `(B,)` each."""

    num_response: Tensor  # 0 while a sequence goes on
    is_stop: Tensor  # ended by a stop token, not by max_tokens


def open_slots(requests: Sequence[Request], mask_id: int, device: torch.device) -> Slots:
    """Return the state of new requests: prompt in place, first block masked, nothing cached."""
    length = max(request.max_length for request in requests)
    stops = max(len(request.sampling.stop_token_ids or ()) for request in requests)

    def column(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=device)

    def rows(values: list[Sequence[int]], width: int, fill: int) -> Tensor:
        return column([[*row, *[fill] * (width - len(row))] for row in values])  # type: ignore[arg-type]

    num_prompt = column([len(request.prompt.token_ids) for request in requests])
    block = column([request.block for request in requests])
    start = num_prompt // block * block
    zero = torch.zeros_like(start)
    tokens = rows([request.prompt.token_ids for request in requests], length, mask_id)
    return Slots(
        tokens=tokens,
        step_map=torch.zeros_like(tokens),
        logprobs=torch.zeros(tokens.shape, dtype=torch.float64, device=device),
        page=column([request.page for request in requests]),
        num_prompt=num_prompt,
        max_tokens=column([request.sampling.max_tokens for request in requests]),
        stop_ids=rows([request.sampling.stop_token_ids or () for request in requests], stops, -1),
        block=block,
        start=start,
        cached=zero,
        num_masks=start + block - num_prompt,
        step=zero,
        step_in_block=zero,
        forwards=zero,
        rules=Rules.of([request.sampling for request in requests], device),
    )


def join(first: Slots, second: Slots, mask_id: int) -> Slots:
    """Return the sequences of both, `first` before `second`."""
    fills = {"tokens": mask_id, "step_map": 0, "logprobs": 0, "stop_ids": -1}

    def both(name: str) -> Tensor:
        a, b = getattr(first, name), getattr(second, name)
        if name in fills:
            width = max(a.shape[1], b.shape[1])
            a, b = (F.pad(x, (0, width - x.shape[1]), value=fills[name]) for x in (a, b))
        return torch.cat((a, b))

    columns = {field.name: both(field.name) for field in fields(Slots) if field.name != "rules"}
    return Slots(**columns, rules=first.rules.join(second.rules))


def block_positions(slots: Slots) -> tuple[Tensor, Tensor]:
    """Return `(B, K)` positions of the current blocks, and which columns belong to each sequence's own block."""
    column = torch.arange(int(slots.block.max()), device=slots.start.device)
    in_block = column < slots.block[:, None]
    positions = slots.start[:, None] + column
    return torch.where(in_block, positions, slots.start[:, None]), in_block


def hidden_slots(slots: Slots, fuses_commit: bool) -> Tensor:
    """Return `(B, K)` bool: the slots this tick denoises.

    Without fusing, a sequence whose last block is not in the cache yet spends the tick on that
    alone.
    """
    positions, in_block = block_positions(slots)
    is_written = slots.step_map.gather(1, positions) > 0
    hidden = in_block & ~is_written & (positions >= slots.num_prompt[:, None])
    return hidden if fuses_commit else hidden & ~is_committing(slots)[:, None]


def is_committing(slots: Slots) -> Tensor:
    """Return `(B,)` bool: whether clean text before the current block is missing in the cache."""
    return slots.cached < slots.start


def advance(slots: Slots, logits: Tensor, hidden: Tensor, alphabet: Alphabet) -> tuple[Slots, Ends]:
    """Take one tick: reveal slots, find responses that ended, move on from finished blocks.

    Args:
        slots: the running sequences.
        logits: `(>= S, V)`, one row per hidden slot.
        hidden: `(B, K)` bool, from `hidden_slots`.
        alphabet: what may be written.
    """
    positions, in_block = block_positions(slots)
    denoises = hidden.any(-1)
    quotas = quota(slots.num_masks, slots.rules.steps, slots.step_in_block)
    result = reveal(logits, hidden, positions, (slots.step, quotas), slots.rules, alphabet.drawable)
    step = slots.step + denoises
    row, column = result.chosen.nonzero(as_tuple=True)
    place = (row, positions[row, column])
    revealed = replace(
        slots,
        tokens=slots.tokens.index_put(place, result.tokens[row, column]),
        logprobs=slots.logprobs.index_put(place, result.logprobs[row, column].double()),
        step_map=slots.step_map.index_put(place, step[row]),
        step=step,
        step_in_block=slots.step_in_block + denoises,
        forwards=slots.forwards + 1,
        cached=slots.start,
    )
    remaining = hidden & ~result.chosen
    ends = find_ends(revealed, remaining | ~in_block, denoises)
    moves = denoises & ~remaining.any(-1) & (ends.num_response == 0)
    return next_block(revealed, moves), ends


def find_ends(slots: Slots, is_open: Tensor, denoises: Tensor) -> Ends:
    """Say which responses ended: at a stop token, or at `max_tokens`, with everything left of it decided.

    Args:
        slots: after this tick's reveals.
        is_open: `(B, K)` columns of the block that are undecided, or past it.
        denoises: `(B,)` whether the tick denoised at all.
    """
    positions, _ = block_positions(slots)
    tokens = slots.tokens.gather(1, positions)
    is_stop = (tokens[..., None] == slots.stop_ids[:, None]).any(-1)
    is_stop &= ~is_open & (positions >= slots.num_prompt[:, None])
    first_open, first_stop = _leading_false(is_open), _leading_false(is_stop)
    room = slots.num_prompt + slots.max_tokens - slots.start
    stops = denoises & (first_stop < first_open) & (first_stop < room)
    fills = denoises & (first_open >= room)
    at_stop = slots.start + first_stop + 1 - slots.num_prompt
    return Ends(torch.where(stops, at_stop, torch.where(fills, slots.max_tokens, 0)), stops)


def _leading_false(mask: Tensor) -> Tensor:
    """Return how many False stand before the first True of each row."""
    return (~mask).long().cumprod(-1).sum(-1)


def next_block(slots: Slots, moves: Tensor) -> Slots:
    """Move the sequences `moves (B,)` on to their next block, all masks."""
    return replace(
        slots,
        start=slots.start + slots.block * moves,
        num_masks=torch.where(moves, slots.block, slots.num_masks),
        step_in_block=slots.step_in_block.masked_fill(moves, 0),
    )
