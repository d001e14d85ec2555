"""One denoising step: which hidden positions of a block are revealed now.

The reference sampler and the engine both call `reveal`. A strategy is two pure functions: a ranking orders
the hidden positions, and an allowance counts how many of the highest-ranked are revealed; a quota is the
fewest. Every step reveals at least one and at most all hidden positions; ties go to the lowest position. A
written token changes only where a request asks for edits or remasking.

Published behaviours this departs from, and why, are in `docs/methods.md`.
"""

from collections.abc import Callable, Mapping
from math import pi
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.constrained import Span, propose_in_spans, runs_of
from unmask.diffusion.keyed_random import CLASS, ORDER, TOKEN, uniform
from unmask.diffusion.sampling_tensors import SCHEDULES, STRATEGIES, SamplingTensors
from unmask.diffusion.token_sampling import Proposal, propose

# Dream's time runs from 1 to this.
TIME_END = 1e-3
# The denoising step of a pinned token while a response is written: not 0, which means hidden.
PINNED = -1


class Block(NamedTuple):
    """The blocks of `B` sequences before a denoising step.

    Attributes:
        tokens: `(B, K)` current ids.
        hidden: `(B, K)` bool, positions that may be revealed now.
        written: `(B, K)` bool, positions the model wrote before.
        positions: `(B, K)` absolute positions.
        taken: `(B,)` denoising steps each sequence has taken.
        step: `(B,)` number of this step in the schedule of its block, from 1.
        quotas: `(B,)` fewest positions to reveal.
        spans: by index, of the blocks whose output is structured.
        is_early: `(B, K)` bool, positions where stop tokens are barred (`min_tokens`).
        stop_ids: `(B, stops)` those tokens, padded with -1.
    """

    tokens: Tensor
    hidden: Tensor
    written: Tensor
    positions: Tensor
    taken: Tensor
    step: Tensor
    quotas: Tensor
    spans: Mapping[int, Span] = MappingProxyType({})
    is_early: Tensor | None = None
    stop_ids: Tensor | None = None


class Reveal(NamedTuple):
    """The outcome of one denoising step; `(B, K)` each.

    Attributes:
        chosen: bool, positions written, edits included; the fields below are meaningful there only.
        remasked: bool, positions masked again.
        tokens: the ids written.
        logprobs: their log-probabilities under the proposal.
        raw_logprobs: their log-probabilities under the model's own distribution.
        entropy: of the model's own distribution.
    """

    chosen: Tensor
    remasked: Tensor
    tokens: Tensor
    logprobs: Tensor
    raw_logprobs: Tensor
    entropy: Tensor


def open_now(hidden: Tensor, sampling: SamplingTensors) -> Tensor:
    """Return the hidden positions `(B, K)` of each block's leftmost sub-block that has any."""
    column = torch.arange(hidden.shape[1], device=hidden.device)
    sub_block = column // sampling.sub_block[:, None]
    first = sub_block.masked_fill(~hidden, hidden.shape[1]).min(-1, keepdim=True).values
    return hidden & (sub_block == first)


def scored_positions(block: Block, sampling: SamplingTensors) -> Tensor:
    """Return `(B, K)` bool, the positions whose logits a step needs: hidden ones, and written ones that may change."""
    if not sampling.needs.revises:
        return block.hidden
    return block.hidden | (block.written & sampling.revises[:, None])


def quota(
    num_masks: Tensor, num_hidden: Tensor, step: Tensor, sampling: SamplingTensors
) -> tuple[Tensor, Tensor]:
    """Return the fewest positions to reveal in this step, and the index of the next step; `(B,)` each.

    `even` and `block` split the block's masks, or its positions, over its steps, the remainder to the first
    ones. `linear` reveals `m (1 - s/t)` of `m` masks from time `t` to `s` (Dream); steps that would reveal
    none are skipped. `cosine` leaves `floor(N cos(pi/2 t/T))` of N masks hidden after step t < T, at least 1 and
    fewer than before (Chang et al., "MaskGIT", 2022).

    Args:
        num_masks: `(B,)` masks of each block before its first step.
        num_hidden: `(B,)` masks left.
        step: `(B,)` index of this step.
        sampling: of the `B` requests.
    """
    is_block, is_linear = (sampling.schedule == SCHEDULES.index(x) for x in ("block", "linear"))
    split = torch.where(is_block, sampling.block, num_masks)
    steps = torch.minimum(sampling.steps, split).clamp(min=1)
    even = split // steps + (step < split % steps)

    left = num_hidden.double()
    span = 1 - TIME_END
    last = sampling.steps - 1
    # The first step from here on that reveals at least one position, and how many it reveals.
    first = (sampling.steps / span - left).ceil().long()
    time = torch.minimum(torch.maximum(first, step), last)
    some = (left * span / (sampling.steps - time * span)).floor().long()
    linear = torch.where(time == last, num_hidden, some)

    # In fp32, as published: of 1024 masks, 511 are left after step 10 of 15, where the cosine is 1/2.
    angle = ((step + 1).double() / sampling.steps).float() * pi * 0.5
    kept = (num_masks * angle.double().cos().float()).floor().long()
    kept = torch.minimum(kept, num_hidden - 1).clamp(min=1)
    cosine = num_hidden - kept.masked_fill(step >= last, 0)

    is_cosine = sampling.schedule == SCHEDULES.index("cosine")
    quotas = torch.where(is_linear, linear, torch.where(is_cosine, cosine, even)).clamp(min=1)
    return quotas, torch.where(is_linear, time, step) + 1


def noisy_confidence(grid: Proposal, block: Block, sampling: SamplingTensors) -> Tensor:
    """Return log-confidence plus Gumbel noise, whose scale is `ranking_noise prod_(s <= t) (1 - s/T)` in step t of T.

    The product is that of MMaDA's published sampler, which shrinks the scale of the step before.
    """
    confidence = grid.confidence.double()
    tiny = torch.finfo(confidence.dtype).tiny  # keeps a probability or a draw of 0 finite
    uniforms = uniform(sampling.seed[:, None], block.positions, block.taken[:, None], ORDER)
    noise = -(-uniforms.clamp(min=tiny).log()).log()
    steps, left = sampling.steps.double(), (sampling.steps - block.step).clamp(min=0).double()
    # (T - 1)! / (T - t - 1)! / T^t, and 0 at t = T, where lgamma is infinite.
    log_scale = steps.lgamma() - left.lgamma() - block.step * steps.log()
    scale = sampling.ranking_noise * log_scale.exp()
    return confidence.clamp(min=tiny).log() + scale[:, None] * noise


# Scores `(B, K)` of each strategy; the position with the highest is revealed first.
RANKINGS: dict[str, Callable[[Proposal, Block, SamplingTensors], Tensor]] = {
    "static": lambda grid, block, sampling: grid.confidence,
    "dynamic": lambda grid, block, sampling: grid.confidence,
    "factor": lambda grid, block, sampling: grid.confidence,
    "margin": lambda grid, block, sampling: grid.margin,
    "entropy": lambda grid, block, sampling: -grid.spread,
    "entropy_bounded": lambda grid, block, sampling: -grid.spread,
    "random": lambda grid, block, sampling: uniform(
        sampling.seed[:, None], block.positions, block.taken[:, None], ORDER
    ),
    "left_to_right": lambda grid, block, sampling: -block.positions,
    "gumbel": noisy_confidence,
}


def above_threshold(ranked: Tensor, sampling: SamplingTensors) -> Tensor:
    """Return the number of positions whose confidence exceeds the threshold."""
    return (ranked > sampling.threshold[:, None]).sum(-1)


def within_factor(ranked: Tensor, sampling: SamplingTensors) -> Tensor:
    """Return the length of the leading run in which the n-th has `(n + 1) (1 - confidence) < factor`."""
    number = torch.arange(1, ranked.shape[1] + 1, device=ranked.device)
    is_sure = (number + 1) * (1 - ranked) < sampling.factor[:, None]
    return is_sure.long().cumprod(-1).sum(-1)


def within_entropy(ranked: Tensor, sampling: SamplingTensors) -> Tensor:
    """Return the length of the leading run whose entropies sum to less than the bound.

    Under `entropy_sum = "exclusive"` the last of them is not summed, and the sum may equal the bound.
    """
    bound = sampling.entropy_bound[:, None]
    total = -ranked.cumsum(-1)  # infinite from the first position on that is not hidden
    before = F.pad(total[:, :-1], (1, 0))
    is_sure = torch.where(sampling.sums_inclusively[:, None], total < bound, before <= bound)
    return (is_sure & ranked.isfinite()).long().cumprod(-1).sum(-1)


ALLOWANCES = {
    "dynamic": above_threshold,
    "factor": within_factor,
    "entropy_bounded": within_entropy,
}


def rank_positions(grid: Proposal, block: Block, sampling: SamplingTensors) -> Tensor:
    """Return the `(B, K)` scores by which each request's strategy reveals its positions, highest first."""
    scores = torch.zeros(block.hidden.shape, dtype=torch.float64, device=block.hidden.device)
    for name in sorted(sampling.needs.strategies):
        is_its = (sampling.strategy == STRATEGIES.index(name))[:, None]
        scores = torch.where(is_its, RANKINGS[name](grid, block, sampling).double(), scores)
    return scores


def allowance(ranked: Tensor, sampling: SamplingTensors) -> Tensor:
    """Return `(B,)` the number of highest-ranked positions that each request's strategy reveals.

    Args:
        ranked: `(B, K)` scores of the hidden positions, descending; -inf for the others.
        sampling: of the `B` requests.
    """
    counts = torch.zeros_like(sampling.strategy)
    for name in sorted(sampling.needs.strategies & ALLOWANCES.keys()):
        is_its = sampling.strategy == STRATEGIES.index(name)
        counts = torch.where(is_its, ALLOWANCES[name](ranked, sampling), counts)
    return counts


def select(scores: Tensor, hidden: Tensor, quotas: Tensor, sampling: SamplingTensors) -> Tensor:
    """Choose the positions that are revealed now.

    Args:
        scores: `(B, K)`, higher is revealed earlier.
        hidden: `(B, K)` bool, the positions that may be chosen.
        quotas: `(B,)` fewest positions to choose, as far as there are hidden ones.
        sampling: of the `B` requests.

    Returns:
        `(B, K)` bool, a subset of `hidden`, and empty only where `hidden` is.
    """
    ranked = scores.masked_fill(~hidden, -torch.inf).sort(dim=-1, descending=True, stable=True)
    num_chosen = torch.maximum(quotas, allowance(ranked.values, sampling))
    # The inverse of the sorting permutation is each position's rank.
    return (ranked.indices.argsort(-1) < num_chosen[:, None]) & hidden


def doubted(grid: Proposal, block: Block, sampling: SamplingTensors) -> Tensor:
    """Return the written positions `(B, K)` to mask again: the least probable, fewer than are hidden."""
    held = grid.held.double().masked_fill(~block.written, torch.inf)
    is_doubted = held < sampling.remask_threshold[:, None]
    # One more position is revealed than masked, so that every step makes progress.
    room = block.hidden.sum(-1, keepdim=True) - 1
    # argsort of argsort: each position's rank by probability, lowest first.
    return is_doubted & (held.argsort(dim=-1, stable=True).argsort(-1) < room)


def reveal(
    logits: Tensor,
    block: Block,
    rows: tuple[Tensor, Tensor],
    sampling: SamplingTensors,
    drawable: Tensor,
    codes: Tensor | None = None,
) -> Reveal:
    """Take one denoising step of `B` blocks.

    Args:
        logits: `(>= S, V)`: one row per scored position; further rows are padding.
        block: the blocks.
        rows: block and column `(S,)` of each scored position; column `K` is padding.
        sampling: sampling parameters of the `B` requests.
        drawable: `(V,)` bool, the ids that may be written.
        codes: `(V,)` bool, those that may be written in an image.
    """
    request, column = rows
    row_sampling = sampling.take(request)
    if sampling.needs.writes_images:
        assert codes is not None
        drawable = torch.where(row_sampling.writes_image[:, None], codes, drawable)
    inside = column.clamp(max=block.hidden.shape[1] - 1)
    if sampling.needs.bars_stops:
        drawable = drawable & ~_barred(block, request, inside, logits.shape[1])
    held, positions = block.tokens[request, inside], block.positions[request, inside]
    taken = block.taken[request]
    uniforms = uniform(row_sampling.seed, positions, taken, TOKEN)
    scored = logits[: request.shape[0]]
    if block.spans:
        of_class = uniform(row_sampling.seed, positions, taken, CLASS)
        runs = runs_of(block.spans, request.tolist(), block.hidden.shape[1], column.tolist())
        uniforms = torch.stack((of_class, uniforms))
        proposal = propose_in_spans(scored, drawable, uniforms, held, row_sampling, runs)
    else:
        proposal = propose(scored, drawable, uniforms, held, row_sampling)
    grid = Proposal(*(_on_grid(values, block.hidden, request, column) for values in proposal))
    return decide(grid, block, sampling)


def decide(grid: Proposal, block: Block, sampling: SamplingTensors) -> Reveal:
    """Return the outcome of a denoising step, given the proposals at its scored positions, `(B, K)` each."""
    remasked = torch.zeros_like(block.hidden)
    edited, quotas = remasked, block.quotas
    if sampling.needs.revises:
        remasked = doubted(grid, block, sampling)
        quotas = torch.maximum(quotas, remasked.sum(-1) + 1)
        is_sure = grid.confidence.double() > sampling.edit_threshold[:, None]
        edited = block.written & is_sure & (grid.tokens != block.tokens) & ~remasked
    chosen = select(rank_positions(grid, block, sampling), block.hidden, quotas, sampling)
    return Reveal(
        chosen | edited, remasked, grid.tokens, grid.logprobs, grid.raw_logprobs, grid.entropy
    )


def _barred(block: Block, request: Tensor, column: Tensor, vocabulary: int) -> Tensor:
    """Return `(S, V)` bool, the stop tokens of the rows at early positions."""
    assert block.is_early is not None and block.stop_ids is not None
    ids = block.stop_ids[request]  # (S, stops)
    barred = torch.zeros(len(ids), vocabulary + 1, dtype=torch.bool, device=ids.device)
    # Padding lands in an extra column that is cut off.
    barred.scatter_(1, ids.where(ids >= 0, vocabulary), True)
    return barred[:, :-1] & block.is_early[request, column][:, None]


def _on_grid(values: Tensor, grid: Tensor, request: Tensor, column: Tensor) -> Tensor:
    """Scatter one value per scored position onto a `(B, K)` grid of zeros, dropping padding."""
    # Padding has column K: it lands in an extra column that is cut off.
    wider = values.new_zeros(grid.shape[0], grid.shape[1] + 1)
    return wider.index_put((request, column), values)[:, :-1]
