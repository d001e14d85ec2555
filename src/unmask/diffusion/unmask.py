"""One denoising step: which token each hidden slot would take, and which slots take theirs now.

The reference sampler and the engine both call `reveal`. It keeps two distributions apart. The
*proposal* (temperature, top-k, top-p, min-p) is what tokens are drawn from, and what
`behavior_logprobs` are of. The *confidence* that orders the slots is by default the model's own
probability of the drawn token, because a tempered or filtered one mistakes a sharper proposal for a
surer model. Every step reveals at least one and at most all hidden slots, and never touches a
revealed one; ties go to the lowest position. The mask id and ids that no tokenizer can decode are
never drawn.

Published behaviours this departs from, and why, are in `docs/methods.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Self

import torch
from torch import Tensor

from unmask.diffusion.draws import ORDER, TOKEN, uniform
from unmask.types import SamplingParams, Strategy

STRATEGIES: tuple[Strategy, ...] = ("static", "dynamic", "random", "left_to_right")


@dataclass(frozen=True, slots=True)
class Rules:
    """The sampling parameters of `B` requests as tensors `(B,)`; see `SamplingParams` for their meaning.

    `has_filters` says on the host whether any request filters its proposal, so that the sort is
    skipped when none does.
    """

    seed: Tensor
    strategy: Tensor
    steps: Tensor
    threshold: Tensor
    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    ranks_by_filtered: Tensor
    has_filters: bool

    @classmethod
    def of(cls, requests: Sequence[SamplingParams], device: torch.device) -> Self:
        """Lay out the parameters of several requests; their `block_size` must be filled in."""

        def column(values: Sequence[float], dtype: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        for request in requests:
            assert request.block_size is not None
        return cls(
            seed=column([r.seed for r in requests], torch.int64),
            strategy=column([STRATEGIES.index(r.strategy) for r in requests], torch.int64),
            steps=column([r.denoising_steps or r.block_size or 1 for r in requests], torch.int64),
            threshold=column(
                [r.threshold if r.strategy == "dynamic" else torch.inf for r in requests],
                torch.float64,
            ),
            temperature=column([r.temperature for r in requests], torch.float64),
            top_k=column([r.top_k for r in requests], torch.int64),
            top_p=column([r.top_p for r in requests], torch.float64),
            min_p=column([r.min_p for r in requests], torch.float64),
            ranks_by_filtered=column([r.confidence == "filtered" for r in requests], torch.bool),
            has_filters=any(r.is_filtered for r in requests),
        )

    def take(self, index: Tensor) -> "Rules":
        """Return the rules of the requests `index`, in that order, with repeats."""
        columns = {
            field.name: getattr(self, field.name).index_select(0, index)
            for field in fields(self)
            if field.name != "has_filters"
        }
        return Rules(**columns, has_filters=self.has_filters)

    def join(self, other: "Rules") -> "Rules":
        """Return the rules of both, these before `other`."""
        columns = {
            field.name: torch.cat((getattr(self, field.name), getattr(other, field.name)))
            for field in fields(self)
            if field.name != "has_filters"
        }
        return Rules(**columns, has_filters=self.has_filters or other.has_filters)


class Proposal(NamedTuple):
    """What each row would write: token, its log-probability when drawn, and the confidence in it; `(rows,)` each."""

    tokens: Tensor
    logprobs: Tensor
    confidence: Tensor


class Reveal(NamedTuple):
    """What one denoising step wrote; `(B, K)` each, meaningful where `chosen`."""

    chosen: Tensor
    tokens: Tensor
    logprobs: Tensor


def filter_logits(logits: Tensor, rules: Rules) -> Tensor:
    """Set to -inf the logits `(rows, V)` that top-k, then top-p, then min-p leave out.

    Top-k keeps ties with the k-th. Top-p keeps the token that crosses p, and is taken of what top-k
    left.
    """
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    num_kept = torch.where(rules.top_k > 0, rules.top_k, logits.shape[-1]).clamp(
        max=logits.shape[-1]
    )
    is_kept = ordered >= ordered.gather(1, num_kept[:, None] - 1)
    probs = ordered.masked_fill(~is_kept, -torch.inf).softmax(-1)
    before = probs.cumsum(-1) - probs
    is_kept &= (before <= rules.top_p[:, None]) | (rules.top_p >= 1)[:, None]
    is_kept &= probs >= rules.min_p[:, None] * probs[:, :1]
    return logits.masked_fill(~torch.zeros_like(is_kept).scatter(1, order, is_kept), -torch.inf)


def draw(probs: Tensor, uniforms: Tensor) -> Tensor:
    """Draw one index per row of `probs (rows, V)` by inverse CDF at `uniforms (rows,)` in [0, 1).

    An index of probability zero is never drawn: the comparison is strict, and the target stays
    below the total.
    """
    cdf = probs.cumsum(-1)
    total = cdf[:, -1]
    below_total = torch.nextafter(total, torch.zeros_like(total))
    target = torch.minimum(uniforms.to(cdf.dtype) * total, below_total)
    return torch.searchsorted(cdf, target[:, None], right=True)[:, 0]


def propose(logits: Tensor, drawable: Tensor, uniforms: Tensor, rules: Rules) -> Proposal:
    """Say what each row would write.

    Args:
        logits: `(rows, V)` in fp32 or wider.
        drawable: `(V,)` bool, the ids that may be written.
        uniforms: `(rows,)` one number in [0, 1) per row.
        rules: the rows' sampling parameters.
    """
    raw = logits.masked_fill(~drawable, -torch.inf)
    is_greedy = rules.temperature == 0
    temperature = rules.temperature.masked_fill(is_greedy, 1.0).to(raw.dtype)
    proposal = raw / temperature[:, None]
    if rules.has_filters:
        proposal = filter_logits(proposal, rules)
    logprobs = proposal.log_softmax(-1)
    tokens = torch.where(is_greedy, proposal.argmax(-1), draw(logprobs.exp(), uniforms))
    picked = logprobs.gather(1, tokens[:, None])[:, 0]
    raw_picked = raw.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    return Proposal(tokens, picked, torch.where(rules.ranks_by_filtered, picked, raw_picked).exp())


def quota(num_masks: Tensor, steps: Tensor, step: Tensor) -> Tensor:
    """Return how many slots step `step` (from 0) of a block reveals at least: an even split, the rest to the first.

    `num_masks` are the block's own masks when it began, so a block that holds the prompt's tail has
    fewer.
    """
    steps = torch.minimum(steps, num_masks).clamp(min=1)
    return (num_masks // steps + (step < num_masks % steps)).clamp(min=1)


def select(scores: Tensor, hidden: Tensor, quotas: Tensor, threshold: Tensor) -> Tensor:
    """Choose the slots that are revealed now.

    Args:
        scores: `(B, K)`, higher is revealed earlier.
        hidden: `(B, K)` bool, the slots that may be chosen.
        quotas: `(B,)` fewest slots to choose, as far as there are hidden ones.
        threshold: `(B,)` all slots strictly above are chosen, if they are at least the quota; +inf
            for none.

    Returns:
        `(B, K)` bool, a subset of `hidden`, and empty only where `hidden` is.
    """
    order = (
        scores.masked_fill(~hidden, -torch.inf).sort(dim=-1, descending=True, stable=True).indices
    )
    rank = order.argsort(-1)
    best = (rank < quotas[:, None]) & hidden
    above = (scores > threshold[:, None]) & hidden
    return torch.where((above.sum(-1) >= quotas)[:, None], above, best)


def score_slots(confidence: Tensor, positions: Tensor, steps: Tensor, rules: Rules) -> Tensor:
    """Return the `(B, K)` order in which each request's strategy reveals its slots, higher first."""
    strategy = rules.strategy[:, None]
    scores = torch.where(
        strategy == STRATEGIES.index("random"),
        uniform(rules.seed[:, None], positions, steps[:, None], ORDER),
        confidence.double(),
    )
    return torch.where(strategy == STRATEGIES.index("left_to_right"), -positions.double(), scores)


def reveal(
    logits: Tensor,
    hidden: Tensor,
    positions: Tensor,
    steps: tuple[Tensor, Tensor],
    rules: Rules,
    drawable: Tensor,
) -> Reveal:
    """Take one denoising step of `B` blocks.

    Args:
        logits: `(>= S, V)`: one row per hidden slot, in the order of `hidden.nonzero()`; further
            rows are padding.
        hidden: `(B, K)` bool, slots still masked.
        positions: `(B, K)` absolute positions.
        steps: `(B,)` denoising steps each sequence has taken, and `(B,)` its quota for this one.
        rules: sampling parameters of the `B` requests.
        drawable: `(V,)` bool, the ids that may be written.
    """
    taken, quotas = steps
    request, column = hidden.nonzero(as_tuple=True)
    row_rules = rules.take(request)
    row_positions = positions[request, column]
    uniforms = uniform(row_rules.seed, row_positions, taken[request], TOKEN)
    proposal = propose(logits[: request.shape[0]], drawable, uniforms, row_rules)

    def on_grid(values: Tensor) -> Tensor:
        return values.new_zeros(hidden.shape).index_put((request, column), values)

    scores = score_slots(on_grid(proposal.confidence), positions, taken, rules)
    chosen = select(scores, hidden, quotas, rules.threshold)
    return Reveal(chosen, on_grid(proposal.tokens), on_grid(proposal.logprobs))
