"""The likelihood of a move: of everything that a denoising step draws, not of the tokens it reveals alone.

A step draws a token at every scored position. Under `static`, `dynamic` and `factor` the confidence of the
*drawn* tokens decides which of them are written; the others are lost. Summed over all draws with one outcome,

    log P(move) = sum_revealed log q_i(y_i) + sum_lost log S_i
                + sum_edited log q_i(y_i)   + sum_stayed log(1 - E_i)

    S_i = q_i{y : (c_i(y), -i) < (c_j, -j) of the last revealed j, and c_i(y) <= limit}
    E_i = q_i{y : y is not the token that stands, and c_i(y) > edit_threshold}

where `q` is the proposal, `c` the confidence that ranks and edits read, and `limit` what more than the quota
would have needed: `threshold` under `dynamic`, `1 - factor / (m + 2)` under `factor` if all m revealed pass
its test. Given the revealed tokens the other draws are independent, so the product is exact. Rankings of the
distribution alone lose nothing: which positions are revealed does not depend on the draw. Which are masked
again depends on no draw either, and is no factor.

Each factor is the proposal's mass on a set of tokens, `{y : c(y) <= bound}` or the token itself, and the
bounds follow from the policy that is scored. They are constants of the gradient: the probability of a move
jumps where two confidences change places, and is differentiable elsewhere. `docs/exact.md` has the proof.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from unmask.sampling_params import SamplingParams

# What a factor of a move is the probability of; 0 is no factor.
REVEALED, LOST, EDITED, STAYED = 1, 2, 3, 4


class MoveRules(NamedTuple):
    """What decides the moves of one request; limits that it does not have are without effect.

    Attributes:
        ranks_draws: whether draws can be lost.
        edits: whether written tokens can be overwritten.
        ranking_temperature: of the confidence.
        threshold: of `dynamic`.
        factor: of `factor`.
        edit_threshold: confidence that an edit exceeds.
    """

    ranks_draws: bool
    edits: bool
    ranking_temperature: float
    threshold: float
    factor: float
    edit_threshold: float

    @classmethod
    def of(cls, params: SamplingParams) -> "MoveRules":
        """Return the rules of a request whose moves have a likelihood: drawn, unfiltered, without noise."""
        assert params.temperature > 0
        assert not params.is_filtered
        assert params.strategy != "gumbel"
        edit_threshold = params.edit_threshold
        return cls(
            ranks_draws=params.ranks_draws,
            edits=edit_threshold is not None,
            ranking_temperature=params.temperature if params.confidence == "filtered" else 1.0,
            threshold=params.threshold if params.strategy == "dynamic" else torch.inf,
            factor=params.factor if params.strategy == "factor" else 0.0,
            edit_threshold=torch.inf if edit_threshold is None else edit_threshold,
        )

    @property
    def numbers(self) -> tuple[float, ...]:
        """What each factor has a column of in `Factors`."""
        return self[2:]

    def kinds(self, opened: Tensor, written: Tensor, chosen: Tensor, remasked: Tensor) -> Tensor:
        """Return what each position contributes to a move, int8, in the shape of the masks.

        Args:
            opened: bool, positions that could be revealed.
            written: bool, written positions that could be changed.
            chosen: bool, positions that the move wrote, edits included.
            remasked: bool, positions that it masked again.
        """
        kinds = chosen * torch.where(opened, REVEALED, EDITED)
        kinds += (opened & ~chosen) * (LOST * self.ranks_draws)
        kinds += (written & ~chosen & ~remasked) * (STAYED * self.edits)
        return kinds.to(torch.int8)


def is_written(kinds: Tensor) -> Tensor:
    """Return which factors are those of tokens that were written, bool in the shape of their kinds."""
    return (kinds == REVEALED) | (kinds == EDITED)


class Moves(NamedTuple):
    """The moves of a trajectory, one for each denoising pass of each block.

    Attributes:
        kinds: `(N, C)` int8, what each position contributes to the move of its block in each view.
        rules: of the request.
    """

    kinds: Tensor
    rules: MoveRules

    @property
    def is_written(self) -> Tensor:
        """`(N, C)` bool, the positions written."""
        return is_written(self.kinds)


class Factors(NamedTuple):
    """The `F` factors of several moves, `(F,)` each; the numbers of `MoveRules` are fp64.

    Attributes:
        kind: REVEALED, LOST, EDITED or STAYED.
        move: number of the move it belongs to, below `F`.
        position: on the canvas: of equal confidences the lower position is revealed first.
        ranking_temperature: see `MoveRules`.
        threshold: see `MoveRules`.
        factor: see `MoveRules`.
        edit_threshold: see `MoveRules`.
        first: `(W,)` indices of the revealed factors of moves that have lost ones: their confidences bound
            those.
    """

    kind: Tensor
    move: Tensor
    position: Tensor
    ranking_temperature: Tensor
    threshold: Tensor
    factor: Tensor
    edit_threshold: Tensor
    first: Tensor

    @classmethod
    def of(cls, kind: Tensor, move: Tensor, position: Tensor, rules: Tensor) -> "Factors":
        """Return the factors of whole moves.

        Args:
            kind: `(F,)`.
            move: `(F,)`.
            position: `(F,)`.
            rules: `(F, 4)` fp64, the numbers of `MoveRules`.
        """
        has_lost = torch.zeros_like(kind, dtype=torch.bool)  # by number of the move
        has_lost[move[kind == LOST]] = True
        first = ((kind == REVEALED) & has_lost[move]).nonzero()[:, 0]
        temperature, threshold, factor, edit_threshold = rules.unbind(1)
        return cls(kind, move, position, temperature, threshold, factor, edit_threshold, first)

    def to(self, device: torch.device) -> "Factors":
        """Return the factors on another device."""
        return Factors(*(column.to(device) for column in self))

    @property
    def is_written(self) -> Tensor:
        """`(F,)` bool, the factors of tokens that were written."""
        return is_written(self.kind)

    def columns(self, confidence: Tensor) -> tuple[Tensor, ...]:
        """Return what `score` takes of each factor, given the confidences `(W,)` of `first`."""
        return self.ranking_temperature, bounds_of(confidence, self), self.kind == LOST

    @property
    def score(self) -> Callable[..., tuple[Tensor, Tensor]]:
        """`score_factors`."""
        return score_factors


def score_factors(
    logits_of: Callable[[Tensor, Tensor], Tensor],
    hidden: Tensor,
    ids: Tensor,
    temperatures: Tensor,
    *columns: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the log-probability of some factors, and the entropy of their proposals, `(s,)` each.

    Args:
        logits_of: `hidden` and `ids` to logits `(s, V)`, -inf for ids that may not be written, which are
            overwritten.
        hidden: `(s, D)`.
        ids: `(s,)` the token written, or the one that stands; not read of lost positions.
        temperatures: `(s,)` of the proposal.
        columns: `(s,)` each, of `Factors.columns`.
    """
    ranking_temperature, bounds, is_lost = columns
    logits = logits_of(hidden, ids)
    ranking = logits.detach() / ranking_temperature[:, None].to(logits.dtype)
    confidence = ranking.log_softmax(-1).exp_()
    logprobs = logits.div_(temperatures[:, None].to(logits.dtype)).log_softmax(-1)
    del logits, ranking
    entropy = torch.special.entr(logprobs.detach().exp()).sum(-1)
    return event_logprobs(logprobs, confidence, ids, bounds, is_lost), entropy


def bounds_of(confidence: Tensor, factors: Factors) -> Tensor:
    """Return `(F,)` the confidence that no token of a factor's set exceeds; -1 for a written token.

    Args:
        confidence: `(W,)` of the tokens that `factors.first` revealed.
        factors: of whole moves.
    """
    move, position = factors.move[factors.first], factors.position[factors.first]  # (W,)
    blank = confidence.new_full(factors.move.shape, torch.inf)  # (F,), by number of the move
    lowest = blank.scatter_reduce(0, move, confidence, "amin")
    last = torch.full_like(factors.move, -1)
    last = last.scatter_reduce(0, move, position.where(confidence == lowest[move], -1), "amax")
    cut = lowest[factors.move]
    # A position right of the last revealed one ranks below it at its confidence too.
    is_right = factors.position > last[factors.move]
    cut = cut.where(is_right, torch.nextafter(cut, torch.full_like(cut, -torch.inf)))
    limits = torch.minimum(factors.threshold, _factor_limits(confidence, move, factors))
    lost = torch.minimum(cut, _rounded_down(limits, cut.dtype))
    stayed = _rounded_down(factors.edit_threshold, cut.dtype)
    bounds = torch.where(factors.kind == STAYED, stayed, -1.0)
    return torch.where(factors.kind == LOST, lost, bounds)


def _factor_limits(confidence: Tensor, move: Tensor, factors: Factors) -> Tensor:
    """Return `(F,)` fp64 `1 - factor / (m + 2)` where all m revealed pass the test of `factor`, else infinity."""
    size = len(factors.move)
    # Revealed tokens move by move, in each from the highest confidence down.
    order = confidence.argsort(descending=True, stable=True)
    order = order[move[order].argsort(stable=True)]
    counts = torch.zeros_like(factors.move).index_add(0, move, torch.ones_like(move))
    starts = counts.cumsum(0) - counts
    number = torch.arange(1, len(move) + 1, device=move.device) - starts[move[order]]  # from 1
    passes = (number + 1) * (1 - confidence[order].double()) < factors.factor[factors.first[order]]
    ones = torch.ones(size, dtype=torch.int64, device=move.device)
    all_pass = ones.scatter_reduce(0, move[order], passes.long(), "amin")[factors.move] > 0
    limits = 1 - factors.factor / (counts[factors.move] + 2)
    return limits.masked_fill(~all_pass, torch.inf)


def _rounded_down(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """Return fp64 numbers in another format, so that the same numbers of that format are below them."""
    rounded = numbers.to(dtype)
    lower = torch.nextafter(rounded, torch.full_like(rounded, -torch.inf))
    return rounded.where(rounded.double() <= numbers, lower)


def event_logprobs(
    logprobs: Tensor, confidence: Tensor, ids: Tensor, bounds: Tensor, is_lost: Tensor
) -> Tensor:
    """Return the log-probability `(F,)` of each factor: of the tokens within its bound, or its own token.

    An event that the policy gives no token, which rounding or a policy far from the sampler's can lead to, has
    the log of the smallest number, without gradient.

    Args:
        logprobs: `(F, V)` under the proposal.
        confidence: `(F, V)`, without gradient.
        ids: `(F,)` the token written, or the one that stands; not read of lost positions.
        bounds: `(F,)` of `bounds_of`.
        is_lost: `(F,)` bool.
    """
    is_in = confidence <= bounds[:, None]
    own = is_in.gather(1, ids[:, None]) | ~is_lost[:, None]
    is_in = is_in.scatter(1, ids[:, None], own)
    # Not -inf: the gradient of a sum of nothing would be NaN.
    lowest = torch.finfo(logprobs.dtype).min
    total = logprobs.where(is_in, lowest).logsumexp(-1)
    return total.where(total > lowest / 2, math.log(torch.finfo(logprobs.dtype).tiny))


def move_logprobs(logits: Tensor, ids: Tensor, temperatures: Tensor, factors: Factors) -> Tensor:
    """Return the log-probability `(F,)` of each factor of several moves, from all logits at once.

    Args:
        logits: `(F, V)`, -inf for ids that may not be written.
        ids: `(F,)` the token written, or the one that stands; not read of lost positions.
        temperatures: `(F,)` of the proposal.
        factors: of whole moves.
    """
    first = factors.first
    # In the format of the logits, as the sampler computes it: a difference in the last bit would break a tie.
    temperature = factors.ranking_temperature[first, None].to(logits.dtype)
    ranking = (logits.detach()[first] / temperature).log_softmax(-1)
    confidence = ranking.gather(1, ids[first, None])[:, 0].exp()
    columns = factors.columns(confidence)
    return score_factors(lambda rows, _: rows.clone(), logits, ids, temperatures, *columns)[0]
