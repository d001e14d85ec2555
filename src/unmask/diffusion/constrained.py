"""Structured output: the open positions of a block, drawn together so that the response stays acceptable.

The law: in a denoising step the open positions are drawn from the product of their distributions (the
*proposals*), conditioned on the event that the automaton can still accept once they stand. Written and pinned
tokens are fixed; positions right of the span count by whether enough of them are left. With `m_i(c)` the
probability that position i draws a token of class c, and `t = table[s, c]`,

    beta_i(s)  = sum over c of m_i(c) beta_{i+1}(t)        the weight of acceptable futures of a state
    alpha_i(s) = the weight of pasts that lead to it       the same from the left
    P_i(c)     ~ sum over s of alpha_i(s) m_i(c) beta_{i+1}(t)

A draw goes from left to right: class c with weight `m_i(c) beta_{i+1}(t)`, then a token of the class by its own
probability. A position's log-probability and confidence are those of its *marginal* `P_i(c) p_i(x) / m_i(c)`: the
probability that the step draws x there. They depend on the canvas, not on what the other positions drew; their
sum over several positions is not the log-probability of the joint draw. At temperature 0 the most probable
acceptable sequence is written (max-product).

Sums run in fp64 on CPU. Where top-k, top-p or min-p leave no acceptable sequence, the step is drawn
without them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from unmask.diffusion.automaton import NEVER, Automaton
from unmask.diffusion.sampling_tensors import SamplingTensors
from unmask.diffusion.token_sampling import Proposal, draw, filter_logits, propose, temper

MOST_WORK = 2**26  # edges times positions: about a second per denoising step
# Strategies that look at all tokens of a position, not only at the one drawn.
RANKED_BY_ALL = {"margin", "entropy", "entropy_bounded"}


class Span(NamedTuple):
    """The positions from a block's first open position to its last, and what stands behind it.

    Attributes:
        automaton: of the request.
        state: before the first position.
        tokens: `(n,)` ids; any value at open positions.
        is_open: `(n,)` bool, the positions that are drawn.
        ends: `(S,)` bool, the states behind the last position from which the rest can be accepted.
    """

    automaton: Automaton
    state: int
    tokens: Tensor
    is_open: Tensor
    ends: Tensor


@dataclass(frozen=True, slots=True)
class Constraint:
    """The automaton of a request, and which states may stand where.

    Attributes:
        automaton: of the request.
        max_tokens: of the request.
        until_pinned: `(pinned, S)` bool, for each position up to the last pinned one the states before it
            from which the rest can be accepted.
    """

    automaton: Automaton
    max_tokens: int
    until_pinned: Tensor

    @classmethod
    def of(
        cls, automaton: Automaton, max_tokens: int, pinned: Sequence[tuple[int, int]] = ()
    ) -> "Constraint":
        """Return the constraint of a request.

        Raises:
            ValueError: if no response of at most `max_tokens` tokens with these pinned tokens is accepted.
        """
        tokens = dict(pinned)
        rows: list[Tensor] = []
        can = automaton.distance <= max_tokens - max(tokens, default=-1) - 1
        for position in range(max(tokens, default=-1), -1, -1):
            if position in tokens:
                target = automaton.table[:, automaton.classes[tokens[position]]]
                can = (target >= 0) & can[target]
            else:
                can = _has_edge(automaton, can[automaton.target])
            rows.append(can)
        if can[0]:
            empty = torch.zeros(0, automaton.num_states, dtype=torch.bool)
            return cls(automaton, max_tokens, torch.stack(rows[::-1]) if rows else empty)
        least = int(automaton.distance[0])
        if least >= NEVER:
            raise ValueError("no text of the model's vocabulary is accepted")
        if least > max_tokens:
            raise ValueError(
                f"needs at least {least} tokens, and max_tokens = {max_tokens}; raise max_tokens"
            )
        raise ValueError(
            f"no response of {max_tokens} tokens that it accepts holds the pinned tokens"
        )

    def ends(self, position: int) -> Tensor:
        """Return the states `(S,)` bool before a position from which the rest can be accepted."""
        if position < len(self.until_pinned):
            return self.until_pinned[position]
        return self.automaton.distance <= self.max_tokens - position

    def span(
        self, tokens: Sequence[int], steps: Sequence[int], opened: Sequence[int]
    ) -> Span | None:
        """Return the span of a step; `None` if it draws nothing before `max_tokens`.

        Args:
            tokens: the response up to the end of the block; any value at hidden positions.
            steps: the step that wrote each; 0 at hidden positions.
            opened: the hidden positions that are drawn, ascending, left of all others.
        """
        inside = [position for position in opened if position < self.max_tokens]
        if not inside:
            return None
        first, stop = inside[0], inside[-1] + 1
        end = min(len(steps), self.max_tokens)
        while stop < end and steps[stop]:  # what stands behind the open positions counts
            stop += 1
        is_open = torch.zeros(stop - first, dtype=torch.bool)
        is_open[torch.tensor(inside) - first] = True
        state = self.automaton.walk(tokens[:first])
        assert state >= 0, "what stands already is acceptable"
        return Span(
            self.automaton, state, torch.tensor(tokens[first:stop]), is_open, self.ends(stop)
        )


def check_work(automaton: Automaton, num_positions: int) -> None:
    """Refuse an automaton whose filter would take seconds for every denoising step.

    Args:
        automaton: of a request.
        num_positions: that are drawn together at most.

    Raises:
        ValueError: naming the numbers.
    """
    work = len(automaton.source) * num_positions
    if work > MOST_WORK:
        raise ValueError(
            f"its automaton over tokens has {len(automaton.source):,} edges, for {num_positions} positions "
            f"that are drawn together: more than {MOST_WORK:,} in all; simplify it, or lower block_size or "
            "max_tokens"
        )


def _has_edge(automaton: Automaton, is_allowed: Tensor) -> Tensor:
    """Return the states `(S,)` bool with an allowed edge; `is_allowed (E,)`."""
    return torch.zeros(automaton.num_states, dtype=torch.bool).index_fill_(
        0, automaton.source[is_allowed], True
    )


class Masses(NamedTuple):
    """Distributions over the tokens of `k` positions, by class.

    Attributes:
        logprobs: `(k, V)` log-probabilities.
        weights: `(k, V)` probability of each token over that of the likeliest of its class.
        most: `(k, C)` log-probability of the likeliest token of a class.
        log: `(k, C)` fp64 on CPU, log-probability of a class.
    """

    logprobs: Tensor
    weights: Tensor
    most: Tensor
    log: Tensor


def class_masses(logprobs: Tensor, automaton: Automaton) -> Masses:
    """Return the log-probabilities `(k, V)` summed by class."""
    classes = automaton.classes.to(logprobs.device)
    shape = len(logprobs), automaton.table.shape[1]
    index = classes.expand(logprobs.shape)
    lowest = torch.finfo(logprobs.dtype).min
    # Finite where a whole class is filtered out: -inf - -inf would be NaN.
    most = logprobs.new_full(shape, lowest).scatter_reduce_(1, index, logprobs, "amax")
    weights = (logprobs - most.index_select(1, classes)).exp_()
    sums = torch.zeros(shape, dtype=torch.float64, device=logprobs.device)
    log = sums.scatter_add_(1, index, weights.double()).log() + most.double()
    return Masses(logprobs, weights, most, log.cpu())


def on_span(values: Tensor, span: Span) -> Tensor:
    """Return log-weights `(n, C)` fp64 of a span: `values (k, C)` where open, certainty elsewhere."""
    classes = span.automaton.classes[span.tokens]
    grid = torch.full((len(span.tokens), values.shape[1]), -torch.inf, dtype=torch.float64)
    grid[torch.arange(len(classes)), classes] = 0.0
    grid[span.is_open] = values.double().cpu()
    return grid


class Filter(NamedTuple):
    """The two passes of the filter over a span, in logarithms.

    Attributes:
        log: `(n, C)` class weights of each position.
        beta: `(n + 1, S)` weights of acceptable futures.
        posterior: `(n, C)` log-probability of each class at each position.
    """

    log: Tensor
    beta: Tensor
    posterior: Tensor


def sum_by(index: Tensor, values: Tensor, size: int) -> Tensor:
    """Return the logarithms `(size,)` of the sums of `exp(values)` by index; -inf for an empty sum."""
    best = values.new_full((size,), -torch.inf).scatter_reduce_(0, index, values, "amax")
    best.masked_fill_(best == -torch.inf, 0.0)  # finite: -inf - -inf would be NaN
    sums = values.new_zeros(size).index_add_(0, index, (values - best[index]).exp_())
    return sums.log_().add_(best)


def run_filter(log: Tensor, span: Span) -> Filter | None:
    """Return the filter over class log-weights `(n, C)`; `None` if no acceptable sequence has weight."""
    automaton, num_positions = span.automaton, len(log)
    source, token_class, target = automaton.source, automaton.token_class, automaton.target
    shape = num_positions + 1, automaton.num_states
    beta = torch.full(shape, -torch.inf, dtype=torch.float64)
    beta[-1, span.ends] = 0.0
    # The weights of edges (E,) are gathered position by position: a canvas may be long.
    for i in range(num_positions - 1, -1, -1):
        through = log[i, token_class] + beta[i + 1, target]
        beta[i] = sum_by(source, through, automaton.num_states)
    if not beta[0, span.state] > -torch.inf:  # also where a weight is NaN
        return None
    alpha = torch.full((automaton.num_states,), -torch.inf, dtype=torch.float64)
    alpha[span.state] = 0.0
    posterior = torch.empty_like(log)
    for i in range(num_positions):
        flow = alpha[source] + log[i, token_class]
        posterior[i] = sum_by(token_class, flow + beta[i + 1, target], log.shape[1])
        alpha = sum_by(target, flow, automaton.num_states)
    return Filter(log, beta, posterior.log_softmax(-1))


def draw_jointly(masses: Masses, found: Filter, span: Span, uniforms: Tensor) -> Tensor:
    """Return the tokens `(k,)` of the open positions of a span, drawn together.

    Args:
        masses: of the open positions.
        found: the filter's passes.
        span: the positions.
        uniforms: `(2, k)` numbers in [0, 1), for the class and for the token in it.
    """

    def choose(state: int, position: int, row: int) -> int:
        target = span.automaton.table[state]
        through = found.log[position] + found.beta[position + 1, target]
        weights = through.masked_fill(target < 0, -torch.inf).softmax(-1)
        return int(draw(weights[None], uniforms[0, row, None].cpu()))

    def token(row: int, members: Tensor) -> Tensor:
        return draw(masses.weights[row, members][None], uniforms[1, row, None])[0]

    return _walk(span, masses.logprobs.device, choose, token)


def likeliest(masses: Masses, span: Span) -> Tensor:
    """Return the tokens `(k,)` of the most probable acceptable sequence, which must exist."""
    automaton, most = span.automaton, on_span(masses.most, span)
    best = torch.full((len(most) + 1, automaton.num_states), -torch.inf, dtype=torch.float64)
    best[-1, span.ends] = 0.0
    for i in range(len(most) - 1, -1, -1):
        through = most[i, automaton.token_class] + best[i + 1, automaton.target]
        best[i].scatter_reduce_(0, automaton.source, through, "amax")

    def choose(state: int, position: int, row: int) -> int:
        target = automaton.table[state]
        through = most[position] + best[position + 1, target]
        return int(through.masked_fill(target < 0, -torch.inf).argmax())

    def token(row: int, members: Tensor) -> Tensor:
        return masses.logprobs[row, members].argmax()

    return _walk(span, masses.logprobs.device, choose, token)


def _walk(
    span: Span,
    device: torch.device,
    choose: Callable[[int, int, int], int],
    token: Callable[[int, Tensor], Tensor],
) -> Tensor:
    """Return the tokens `(k,)` of open positions, chosen from left to right.

    Args:
        span: the positions.
        device: of the tokens.
        choose: from state, position and row (the number of the open position) to a class.
        token: from row and the tokens of a class to the index of one of them.
    """
    automaton, state = span.automaton, span.state
    members, starts = automaton.members.to(device), automaton.starts.tolist()
    fixed = automaton.classes[span.tokens].tolist()
    tokens: list[Tensor] = []
    for position, is_open in enumerate(span.is_open.tolist()):
        found = choose(state, position, len(tokens)) if is_open else fixed[position]
        if is_open:
            some = members[starts[found] : starts[found + 1]]
            tokens.append(some[token(len(tokens), some)])
        state = int(automaton.table[state, found])
    return torch.stack(tokens)


def propose_jointly(
    logits: Tensor,
    drawable: Tensor,
    uniforms: Tensor,
    held: Tensor,
    sampling: SamplingTensors,
    span: Span,
) -> Proposal:
    """Return the proposed tokens of one request's open positions, drawn together.

    Args:
        logits: `(k, V)`, one row per open position.
        drawable: `(V,)` or `(k, V)` bool, the ids that may be written.
        uniforms: `(2, k)` random numbers in [0, 1).
        held: `(k,)` the current ids of the positions.
        sampling: the rows' parameters, all of one request.
        span: the positions.
    """
    automaton, needs = span.automaton, sampling.needs
    lowest = torch.finfo(logits.dtype).min
    kept = logits.clamp(min=lowest).masked_fill_(~drawable, lowest)
    raw = kept.log_softmax(-1)
    unfiltered = temper(kept, sampling).log_softmax(-1) if needs.tempers else raw
    proposal = unfiltered
    if needs.filters:
        proposal = filter_logits(unfiltered, sampling).log_softmax(-1)
    masses = class_masses(proposal, automaton)
    found = run_filter(on_span(masses.log, span), span)
    if found is None and proposal is not unfiltered:
        masses = class_masses(unfiltered, automaton)
        found = run_filter(on_span(masses.log, span), span)
    if found is None:
        # Some logits are not numbers. `advance` ends a response whose log-probabilities are not.
        broken = propose(logits, drawable, uniforms[1], held, sampling)
        return broken._replace(raw_logprobs=torch.full_like(broken.raw_logprobs, torch.nan))
    is_greedy = bool(sampling.temperature[0] == 0)
    tokens = likeliest(masses, span) if is_greedy else draw_jointly(masses, found, span, uniforms)
    shift = _shift(masses, found, span)
    logprobs = _marginal(masses, shift, span, tokens[:, None])[:, 0]
    if not sampling.ranks_by_filtered[0] and not torch.equal(raw, masses.logprobs):
        masses = class_masses(raw, automaton)
        found = run_filter(on_span(masses.log, span), span)
        assert found is not None, "without filters every acceptable sequence has weight"
        shift = _shift(masses, found, span)
    ranking = _marginal(masses, shift, span, tokens[:, None])[:, 0]
    entropy = -(raw.exp() * raw).sum(-1)
    margin, spread = torch.zeros_like(entropy), entropy
    if needs.strategies & RANKED_BY_ALL:
        everything = _marginal(masses, shift, span, torch.arange(raw.shape[1]).expand_as(raw))
        best = everything.topk(2, dim=-1).values.exp()
        margin, spread = best[:, 0] - best[:, 1], torch.special.entr(everything.exp()).sum(-1)
    return Proposal(
        tokens=tokens,
        logprobs=logprobs,
        raw_logprobs=raw.gather(1, tokens[:, None])[:, 0],
        entropy=entropy,
        confidence=ranking.exp(),
        margin=margin,
        spread=spread,
        held=raw.gather(1, held[:, None])[:, 0].exp(),
    )


def _shift(masses: Masses, found: Filter, span: Span) -> Tensor:
    """Return `(k, C)` the logarithm of what conditioning multiplies the probabilities of a class by."""
    posterior = found.posterior[span.is_open]
    # -inf where a class has no weight; its own log-weight may be -inf too.
    shift = (posterior - masses.log).masked_fill(posterior == -torch.inf, -torch.inf)
    return shift.to(masses.logprobs)


def _marginal(masses: Masses, shift: Tensor, span: Span, tokens: Tensor) -> Tensor:
    """Return log-probabilities `(k, n)` with which a step draws `tokens (k, n)` at its open positions."""
    tokens = tokens.to(shift.device)
    classes = span.automaton.classes.to(shift.device)[tokens]
    # Rounding may take the logarithm of a certain token above 0.
    return (masses.logprobs.gather(1, tokens) + shift.gather(1, classes)).clamp_(max=0.0)


def propose_in_spans(
    logits: Tensor,
    drawable: Tensor,
    uniforms: Tensor,
    held: Tensor,
    sampling: SamplingTensors,
    runs: Mapping[tuple[int, int], Span],
) -> Proposal:
    """Return the proposed token of each row: drawn together in the runs of rows that are a span's.

    Args:
        logits: `(rows, V)` in fp32 or wider.
        drawable: `(V,)` or `(rows, V)` bool, the ids that may be written.
        uniforms: `(2, rows)` random numbers in [0, 1).
        held: `(rows,)` the current ids of the positions.
        sampling: the rows' sampling parameters.
        runs: start and stop of rows to their span, ascending.
    """
    pieces: list[tuple[int, int, Span | None]] = []
    end = 0
    for (start, stop), span in runs.items():
        pieces += [(end, start, None), (start, stop, span)]
        end = stop
    parts: list[Proposal] = []
    for start, stop, span in (*pieces, (end, len(logits), None)):
        if start == stop:
            continue
        some, at, its = logits[start:stop], uniforms[:, start:stop], held[start:stop]
        rows = sampling.take(torch.arange(start, stop, device=logits.device))
        ids = drawable if drawable.dim() == 1 else drawable[start:stop]
        if span is None:
            parts.append(propose(some, ids, at[1], its, rows))
        else:
            parts.append(propose_jointly(some, ids, at, its, rows, span))
    return Proposal(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def runs_of(
    spans: Mapping[int, Span], request: Sequence[int], width: int, columns: Sequence[int]
) -> dict[tuple[int, int], Span]:
    """Return the rows, start and stop, of each span's open positions.

    Args:
        spans: by block.
        request: the block of each row, ascending.
        width: columns of a block; a row at this column is padding.
        columns: of each row.
    """
    firsts: dict[int, int] = {}
    for row, (block, column) in enumerate(zip(request, columns, strict=True)):
        if column < width:
            firsts.setdefault(block, row)
    starts = {block: firsts[block] for block in sorted(spans)}
    return {
        (start, start + int(spans[block].is_open.sum())): spans[block]
        for block, start in starts.items()
    }
