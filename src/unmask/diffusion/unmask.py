"""One denoising step: which slots of a block take the token they would write, now.

The reference sampler and the engine both call `reveal`. A strategy is two pure functions: `ranking`
says in which order slots are revealed, `allowance` how many of the foremost it is sure of; a quota
says how many there are at least. Every step reveals at least one and at most all hidden slots; ties
go to the lowest position. A written token changes only where a request asks for edits or remasking.

Published behaviours this departs from, and why, are in `docs/methods.md`.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.keyed_random import ORDER, TOKEN, uniform
from unmask.diffusion.sampling_tensors import SCHEDULES, STRATEGIES, Rules
from unmask.diffusion.token_sampling import Proposal, propose

# Dream's time runs from 1 to this.
TIME_END = 1e-3


class Block(NamedTuple):
    """The blocks of `B` sequences before a denoising step.

    Attributes:
        tokens: `(B, K)` the ids the slots hold.
        hidden: `(B, K)` bool, slots that may be revealed now.
        written: `(B, K)` bool, slots the model wrote before.
        positions: `(B, K)` absolute positions.
        taken: `(B,)` denoising steps each sequence has taken.
        quotas: `(B,)` fewest slots to reveal.
    """

    tokens: Tensor
    hidden: Tensor
    written: Tensor
    positions: Tensor
    taken: Tensor
    quotas: Tensor


class Reveal(NamedTuple):
    """What one denoising step did; `(B, K)` each.

    Attributes:
        chosen: slots written, edits included; the other columns are meaningful there.
        remasked: slots masked again.
        tokens: what was written.
        logprobs: its log-probability under the proposal.
        raw_logprobs: its log-probability under the model's own distribution.
        entropy: of the model's own distribution.
    """

    chosen: Tensor
    remasked: Tensor
    tokens: Tensor
    logprobs: Tensor
    raw_logprobs: Tensor
    entropy: Tensor


def open_now(hidden: Tensor, rules: Rules) -> Tensor:
    """Return which of the hidden slots `(B, K)` may be revealed now: those of the leftmost open sub-block."""
    column = torch.arange(hidden.shape[1], device=hidden.device)
    sub_block = column // rules.sub_block[:, None]
    first = sub_block.masked_fill(~hidden, hidden.shape[1]).min(-1, keepdim=True).values
    return hidden & (sub_block == first)


def scored_slots(block: Block, rules: Rules) -> Tensor:
    """Return `(B, K)` bool, the slots whose logits a step needs: the hidden, and the written that may change."""
    if not rules.needs.revises:
        return block.hidden
    return block.hidden | (block.written & rules.revises[:, None])


class Progress(NamedTuple):
    """How far `B` blocks are: their own masks when they began, the masks left, and the steps taken; `(B,)` each."""

    num_masks: Tensor
    num_hidden: Tensor
    step: Tensor


def quota(progress: Progress, rules: Rules) -> tuple[Tensor, Tensor]:
    """Return how many slots this step reveals at least, and the number of the next step; `(B,)` each.

    `even` and `block` split the block's masks, or its slots, over its steps, the rest to the first.
    `linear` reveals `m (1 - s/t)` of `m` masks from time `t` to `s` (Dream); steps that would reveal
    nothing change nothing, and are passed over.
    """
    split = torch.where(rules.schedule == SCHEDULES.index("block"), rules.block, progress.num_masks)
    steps = torch.minimum(rules.steps, split).clamp(min=1)
    even = split // steps + (progress.step < split % steps)

    left = progress.num_hidden.double()
    span = 1 - TIME_END
    last = rules.steps - 1
    # The first step from here on that reveals something, and what it reveals.
    first = (rules.steps / span - left).ceil().long()
    time = torch.minimum(torch.maximum(first, progress.step), last)
    some = (left * span / (rules.steps - time * span)).floor().long()
    linear = torch.where(time == last, progress.num_hidden, some)

    is_linear = rules.schedule == SCHEDULES.index("linear")
    quotas = torch.where(is_linear, linear, even).clamp(min=1)
    return quotas, torch.where(is_linear, time, progress.step) + 1


def confidence_ranking(grid: Proposal, positions: Tensor, keys: tuple[Tensor, Tensor]) -> Tensor:
    """Rank slots by the probability of the token they would write."""
    return grid.confidence


def margin_ranking(grid: Proposal, positions: Tensor, keys: tuple[Tensor, Tensor]) -> Tensor:
    """Rank slots by the lead of their likeliest token over the next."""
    return grid.margin


def entropy_ranking(grid: Proposal, positions: Tensor, keys: tuple[Tensor, Tensor]) -> Tensor:
    """Rank slots by the entropy of their distribution, least first."""
    return -grid.spread


def random_ranking(grid: Proposal, positions: Tensor, keys: tuple[Tensor, Tensor]) -> Tensor:
    """Rank slots by a draw."""
    seed, taken = keys
    return uniform(seed[:, None], positions, taken[:, None], ORDER)


def position_ranking(grid: Proposal, positions: Tensor, keys: tuple[Tensor, Tensor]) -> Tensor:
    """Rank slots from the left."""
    return -positions


RANKINGS = {
    "static": confidence_ranking,
    "dynamic": confidence_ranking,
    "factor": confidence_ranking,
    "margin": margin_ranking,
    "entropy": entropy_ranking,
    "entropy_bounded": entropy_ranking,
    "random": random_ranking,
    "left_to_right": position_ranking,
}


def above_threshold(ranked: Tensor, rules: Rules) -> Tensor:
    """Count the slots whose confidence exceeds the threshold."""
    return (ranked > rules.threshold[:, None]).sum(-1)


def within_factor(ranked: Tensor, rules: Rules) -> Tensor:
    """Count the foremost slots while the n-th has `(n + 1) (1 - confidence) < factor`."""
    number = torch.arange(1, ranked.shape[1] + 1, device=ranked.device)
    is_sure = (number + 1) * (1 - ranked) < rules.factor[:, None]
    return is_sure.long().cumprod(-1).sum(-1)


def within_entropy(ranked: Tensor, rules: Rules) -> Tensor:
    """Count the foremost slots while their entropies sum to less than the bound.

    Under `entropy_sum = "exclusive"` the last of them does not count, and the sum may reach the bound.
    """
    bound = rules.entropy_bound[:, None]
    total = -ranked.cumsum(-1)  # infinite from the first slot on that is not hidden
    before = F.pad(total[:, :-1], (1, 0))
    is_sure = torch.where(rules.sums_inclusively[:, None], total < bound, before <= bound)
    return (is_sure & ranked.isfinite()).long().cumprod(-1).sum(-1)


ALLOWANCES = {
    "dynamic": above_threshold,
    "factor": within_factor,
    "entropy_bounded": within_entropy,
}


def rank_slots(grid: Proposal, block: Block, rules: Rules) -> Tensor:
    """Return the `(B, K)` order in which each request's strategy reveals its slots, higher first."""
    scores = torch.zeros(block.hidden.shape, dtype=torch.float64, device=block.hidden.device)
    for name in sorted(rules.needs.strategies):
        is_its = (rules.strategy == STRATEGIES.index(name))[:, None]
        values = RANKINGS[name](grid, block.positions, (rules.seed, block.taken))
        scores = torch.where(is_its, values.double(), scores)
    return scores


def allowance(ranked: Tensor, rules: Rules) -> Tensor:
    """Return `(B,)` how many of the foremost slots each request's strategy is sure of.

    Args:
        ranked: `(B, K)` scores of the hidden slots, descending; -inf for the others.
        rules: of the `B` requests.
    """
    counts = torch.zeros_like(rules.strategy)
    for name in sorted(rules.needs.strategies & ALLOWANCES.keys()):
        is_its = rules.strategy == STRATEGIES.index(name)
        counts = torch.where(is_its, ALLOWANCES[name](ranked, rules), counts)
    return counts


def select(scores: Tensor, hidden: Tensor, quotas: Tensor, rules: Rules) -> Tensor:
    """Choose the slots that are revealed now.

    Args:
        scores: `(B, K)`, higher is revealed earlier.
        hidden: `(B, K)` bool, the slots that may be chosen.
        quotas: `(B,)` fewest slots to choose, as far as there are hidden ones.
        rules: of the `B` requests.

    Returns:
        `(B, K)` bool, a subset of `hidden`, and empty only where `hidden` is.
    """
    ranked = scores.masked_fill(~hidden, -torch.inf).sort(dim=-1, descending=True, stable=True)
    num_chosen = torch.maximum(quotas, allowance(ranked.values, rules))
    return (ranked.indices.argsort(-1) < num_chosen[:, None]) & hidden


def doubted(grid: Proposal, block: Block, rules: Rules) -> Tensor:
    """Return the written slots `(B, K)` that are masked again: the least probable, fewer than are hidden."""
    held = grid.held.double().masked_fill(~block.written, torch.inf)
    is_doubted = held < rules.remask_threshold[:, None]
    # One more slot is revealed than masked, so that every step comes nearer to the end.
    room = block.hidden.sum(-1, keepdim=True) - 1
    return is_doubted & (held.argsort(dim=-1, stable=True).argsort(-1) < room)


def reveal(
    logits: Tensor,
    block: Block,
    rows: tuple[Tensor, Tensor],
    rules: Rules,
    drawable: Tensor,
) -> Reveal:
    """Take one denoising step of `B` blocks.

    Args:
        logits: `(>= S, V)`: one row per scored slot; further rows are padding.
        block: the blocks.
        rows: block and column `(S,)` of each scored slot; column `K` is padding.
        rules: sampling parameters of the `B` requests.
        drawable: `(V,)` bool, the ids that may be written.
    """
    request, column = rows
    row_rules = rules.take(request)
    inside = column.clamp(max=block.hidden.shape[1] - 1)
    held, positions = block.tokens[request, inside], block.positions[request, inside]
    uniforms = uniform(row_rules.seed, positions, block.taken[request], TOKEN)
    proposal = propose(logits[: request.shape[0]], drawable, uniforms, held, row_rules)
    grid = Proposal(*(_on_grid(values, block.hidden, request, column) for values in proposal))

    remasked = torch.zeros_like(block.hidden)
    edited, quotas = remasked, block.quotas
    if rules.needs.revises:
        remasked = doubted(grid, block, rules)
        quotas = torch.maximum(quotas, remasked.sum(-1) + 1)
        is_sure = grid.confidence.double() > rules.edit_threshold[:, None]
        edited = block.written & is_sure & (grid.tokens != block.tokens) & ~remasked
    chosen = select(rank_slots(grid, block, rules), block.hidden, quotas, rules)
    return Reveal(
        chosen | edited, remasked, grid.tokens, grid.logprobs, grid.raw_logprobs, grid.entropy
    )


def _on_grid(values: Tensor, grid: Tensor, request: Tensor, column: Tensor) -> Tensor:
    """Put one value per scored slot onto a `(B, K)` grid of zeros; what is padding falls off its edge."""
    wider = values.new_zeros(grid.shape[0], grid.shape[1] + 1)
    return wider.index_put((request, column), values)[:, :-1]
