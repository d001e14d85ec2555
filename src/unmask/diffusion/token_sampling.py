"""Token sampling: the token that each position proposes, and the model's confidence in it.

Two distributions are kept apart. Tokens are drawn from the *proposal* (temperature, top-k, top-p, min-p), and
`behavior_logprobs` are taken under it. The *ranking* distribution orders the positions; by default it is the
model's own (temperature 1, no filter), because temperature and filters sharpen a distribution without making
the model more certain. The mask id and ids that no tokenizer decodes have probability 0 in both.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from unmask.diffusion.sampling_tensors import SamplingTensors

# Logits that are worked on at a time: five tensors of so many numbers are alive, 2.5 GiB in fp32.
MOST_ELEMENTS = 2**27


class Proposal(NamedTuple):
    """The proposed token of each row; `(rows,)` each.

    Attributes:
        tokens: the token drawn.
        logprobs: its log-probability under the proposal.
        raw_logprobs: its log-probability under the model's own distribution.
        entropy: of the model's own distribution, in nats.
        confidence: probability of the token under the ranking distribution.
        margin: probability margin of the ranking distribution's likeliest token over the second; zero when
            no request needs it.
        spread: entropy of the ranking distribution.
        held: probability of the position's current token under the model's own distribution.
    """

    tokens: Tensor
    logprobs: Tensor
    raw_logprobs: Tensor
    entropy: Tensor
    confidence: Tensor
    margin: Tensor
    spread: Tensor
    held: Tensor


def filter_logits(logits: Tensor, sampling: SamplingTensors) -> Tensor:
    """Return logits `(rows, V)` with -inf where top-k, then top-p, then min-p exclude a token.

    Top-k keeps ties with the k-th. Top-p keeps the token that crosses p, and renormalises over the tokens
    that top-k kept.
    """
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    vocabulary = logits.shape[-1]
    num_kept = sampling.top_k.where(sampling.top_k > 0, vocabulary).clamp(max=vocabulary)
    is_kept = ordered >= ordered.gather(1, num_kept[:, None] - 1)  # against the k-th largest
    probs = ordered.masked_fill(~is_kept, -torch.inf).softmax(-1)
    before = probs.cumsum(-1) - probs  # the mass of likelier tokens
    is_kept &= (before <= sampling.top_p[:, None]) | (sampling.top_p >= 1)[:, None]
    is_kept &= probs >= sampling.min_p[:, None] * probs[:, :1]
    # From sorted order back to token ids.
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
    # NaN probabilities index past the vocabulary: clamp; `advance` reports the non-finite log-probability.
    return torch.searchsorted(cdf, target[:, None], right=True)[:, 0].clamp(max=cdf.shape[-1] - 1)


def propose(
    logits: Tensor, drawable: Tensor, uniforms: Tensor, held: Tensor, sampling: SamplingTensors
) -> Proposal:
    """Return the proposed token of each row.

    Args:
        logits: `(rows, V)` in fp32 or wider.
        drawable: `(V,)` or `(rows, V)` bool, the ids that may be written.
        uniforms: `(rows,)` random numbers in [0, 1).
        held: `(rows,)` the current ids of the positions.
        sampling: the rows' sampling parameters.
    """
    count = max(1, MOST_ELEMENTS // logits.shape[1])
    if len(logits) <= count:
        return _propose(logits, drawable, uniforms, held, sampling)
    rows = torch.arange(len(logits), device=logits.device)
    drawable = drawable.expand(logits.shape)
    split = (x.split(count) for x in (logits, drawable, uniforms, held, rows))
    chunks = [
        _propose(some, ids, at, tokens, sampling.take(index))
        for some, ids, at, tokens, index in zip(*split, strict=True)
    ]
    return Proposal(*(torch.cat(parts) for parts in zip(*chunks, strict=True)))


def _propose(
    logits: Tensor, drawable: Tensor, uniforms: Tensor, held: Tensor, sampling: SamplingTensors
) -> Proposal:
    """Return `propose` of rows that fit in memory; every row's bits are its own."""
    # The lowest finite value instead of -inf: 0 * -inf in the entropy would be NaN.
    lowest = torch.finfo(logits.dtype).min
    logits = logits.clamp(min=lowest).masked_fill_(~drawable, lowest)
    raw = logits.log_softmax(-1)
    raw_probs = raw.exp()
    proposal = raw
    if sampling.needs.tempers:
        tempered = temper(logits, sampling)
        filtered = filter_logits(tempered, sampling) if sampling.needs.filters else tempered
        proposal = filtered.log_softmax(-1)
        del tempered, filtered
    del logits
    tokens = _choose(proposal, raw_probs if proposal is raw else None, uniforms, sampling)
    ranking = raw
    if sampling.needs.ranks_filtered:
        ranking = torch.where(sampling.ranks_by_filtered[:, None], proposal, raw)
    entropy = -raw_probs.mul_(raw).sum(-1)  # in place: the probabilities have served
    margin = torch.zeros_like(entropy)
    if "margin" in sampling.needs.strategies:
        best = ranking.topk(2, dim=-1).values.exp()
        margin = best[:, 0] - best[:, 1]
    return Proposal(
        tokens=tokens,
        logprobs=_pick(proposal, tokens),
        raw_logprobs=_pick(raw, tokens),
        entropy=entropy,
        confidence=_pick(ranking, tokens).exp(),
        margin=margin,
        spread=_spread(ranking, entropy, sampling) if sampling.needs.ranks_filtered else entropy,
        held=_pick(raw, held).exp(),
    )


def _spread(ranking: Tensor, entropy: Tensor, sampling: SamplingTensors) -> Tensor:
    """Return the entropy of the ranking distribution, bit for bit `entropy` where that is the model's own."""
    filtered = torch.special.entr(ranking.exp()).sum(-1)
    return torch.where(sampling.ranks_by_filtered, filtered, entropy)


def temper(logits: Tensor, sampling: SamplingTensors) -> Tensor:
    """Return the logits over the temperature, in place; a temperature of 0 leaves them as they are."""
    temperature = sampling.temperature.masked_fill(sampling.temperature == 0, 1.0).to(logits.dtype)
    return logits.div_(temperature[:, None])


def _choose(
    proposal: Tensor, probs: Tensor | None, uniforms: Tensor, sampling: SamplingTensors
) -> Tensor:
    """Return each row's token: the likeliest at temperature 0, otherwise drawn.

    `probs` are the probabilities of `proposal`, where they are there already.
    """
    if not sampling.needs.draws:
        return proposal.argmax(-1)
    drawn = draw(proposal.exp() if probs is None else probs, uniforms)
    if not sampling.needs.is_greedy:
        return drawn
    return torch.where(sampling.temperature == 0, proposal.argmax(-1), drawn)


def _pick(values: Tensor, tokens: Tensor) -> Tensor:
    return values.gather(1, tokens[:, None])[:, 0]
