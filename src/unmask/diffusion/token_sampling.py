"""What each masked slot would write, and how sure the model is of it.

Two distributions are kept apart. The *proposal* (temperature, top-k, top-p, min-p) is what tokens are
drawn from, and what `behavior_logprobs` are of. The *ranking* distribution orders the slots; by
default it is the model's own (temperature 1, no filter), because a tempered or filtered one mistakes
a sharper proposal for a surer model. The mask id and ids that no tokenizer can decode are in neither.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from unmask.diffusion.sampling_tensors import Rules


class Proposal(NamedTuple):
    """What each row would write; `(rows,)` each.

    Attributes:
        tokens: the token drawn.
        logprobs: its log-probability under the proposal.
        raw_logprobs: its log-probability under the model's own distribution.
        entropy: of the model's own distribution, in nats.
        confidence: probability of the token under the ranking distribution.
        margin: lead of the ranking distribution's likeliest token over the next; zero when no
            request asks for it.
        spread: entropy of the ranking distribution.
        held: probability of the token the slot holds now under the model's own distribution.
    """

    tokens: Tensor
    logprobs: Tensor
    raw_logprobs: Tensor
    entropy: Tensor
    confidence: Tensor
    margin: Tensor
    spread: Tensor
    held: Tensor


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
    # Probabilities that are not numbers lead past the end; whoever asked will see it in the numbers.
    return torch.searchsorted(cdf, target[:, None], right=True)[:, 0].clamp(max=cdf.shape[-1] - 1)


def propose(
    logits: Tensor, drawable: Tensor, uniforms: Tensor, held: Tensor, rules: Rules
) -> Proposal:
    """Say what each row would write.

    Args:
        logits: `(rows, V)` in fp32 or wider.
        drawable: `(V,)` bool, the ids that may be written.
        uniforms: `(rows,)` one number in [0, 1) per row.
        held: `(rows,)` the ids the slots hold now.
        rules: the rows' sampling parameters.
    """
    # Not -inf, also where the model says so: its product with a probability of zero would not be zero.
    lowest = torch.finfo(logits.dtype).min
    logits = logits.clamp(min=lowest).masked_fill_(~drawable, lowest)
    raw = logits.log_softmax(-1)
    raw_probs = raw.exp()
    proposal = _tempered(logits, rules).log_softmax(-1) if rules.needs.tempers else raw
    tokens = _choose(proposal, raw_probs if proposal is raw else proposal.exp(), uniforms, rules)
    ranking = raw
    if rules.needs.ranks_filtered:
        ranking = torch.where(rules.ranks_by_filtered[:, None], proposal, raw)
    entropy = -(raw_probs * raw).sum(-1)
    margin = torch.zeros_like(entropy)
    if "margin" in rules.needs.strategies:
        best = ranking.topk(2, dim=-1).values.exp()
        margin = best[:, 0] - best[:, 1]
    return Proposal(
        tokens=tokens,
        logprobs=_pick(proposal, tokens),
        raw_logprobs=_pick(raw, tokens),
        entropy=entropy,
        confidence=_pick(ranking, tokens).exp(),
        margin=margin,
        spread=_spread(ranking, entropy, rules) if rules.needs.ranks_filtered else entropy,
        held=_pick(raw, held).exp(),
    )


def _spread(ranking: Tensor, entropy: Tensor, rules: Rules) -> Tensor:
    """Return the entropy of the ranking distribution; where that is the model's own, to the bit as it is."""
    filtered = torch.special.entr(ranking.exp()).sum(-1)
    return torch.where(rules.ranks_by_filtered, filtered, entropy)


def _tempered(logits: Tensor, rules: Rules) -> Tensor:
    """Return the logits that tokens are drawn from."""
    temperature = rules.temperature.masked_fill(rules.temperature == 0, 1.0).to(logits.dtype)
    tempered = logits / temperature[:, None]
    return filter_logits(tempered, rules) if rules.needs.filters else tempered


def _choose(proposal: Tensor, probs: Tensor, uniforms: Tensor, rules: Rules) -> Tensor:
    """Return each row's token: the likeliest at temperature 0, a draw otherwise."""
    if not rules.needs.draws:
        return proposal.argmax(-1)
    drawn = draw(probs, uniforms)
    if not rules.needs.is_greedy:
        return drawn
    return torch.where(rules.temperature == 0, proposal.argmax(-1), drawn)


def _pick(values: Tensor, tokens: Tensor) -> Tensor:
    return values.gather(1, tokens[:, None])[:, 0]
