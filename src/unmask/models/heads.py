"""Heads: functions of the hidden states of the scored rows.

Without targets the language head returns raw fp32 logits, for samplers. With targets it returns the
log-probability of each target and the entropy of its distribution, in the one definition that engine
and learner share: fp32, at the trajectory's temperature, over the ids the engine may draw. Full `(T, V)`
logits never exist in training: rows are scored in chunks, recomputed in the backward pass.

A target may be a set of tokens instead of one, whose log-probability is that of any of them (`TokenSets`).

The value head returns one number per row: the expected return of the rest of the response.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unmask.models.linear import Linear
from unmask.models.spec import ModelSpec

# Logits held at a time when scoring: 64 MiB of them on CPU, where each further chunk costs a gradient of
# the head's whole weight. A GPU needs thousands of rows to be busy.
CHUNK_ELEMENTS = {"cpu": 2**24, "cuda": 2**27}
NARROW = (torch.bfloat16, torch.float16)
# Hidden states `(s, D)` and token ids `(s,)` to logits `(s, V)`, -inf for ids that may not be drawn.
LogitsOf = Callable[[Tensor, Tensor], Tensor]
# `LogitsOf`, hidden states and columns `(s,)`, ids first, to log-probability and entropy `(s,)`.
Score = Callable[..., tuple[Tensor, Tensor]]


class TokenSets(Protocol):
    """The set of tokens that each row is scored by; which they are depends on other rows (`diffusion/moves.py`)."""

    @property
    def first(self) -> Tensor:
        """`(W,)` the rows whose targets the sets depend on."""
        ...

    @property
    def ranking_temperature(self) -> Tensor:
        """`(S,)` temperature of the probabilities that decide what is in a set."""
        ...

    def columns(self, confidence: Tensor) -> tuple[Tensor, ...]:
        """Return what `score` takes of each row, `(S,)` each, given the probabilities `(W,)` of those targets."""
        ...

    @property
    def score(self) -> Score:
        """What turns rows into log-probabilities of their sets; its columns are ids, temperatures and `columns`."""
        ...


class Targets(NamedTuple):
    """The token scored at each scored row, or the set of tokens.

    Attributes:
        ids: `(S,)` token ids, or `(S, M)`: the token, and others that are scored in its place.
        temperatures: `(S,)` temperature at which each was drawn.
        sets: of tokens; `None` where the token alone is scored.
    """

    ids: Tensor
    temperatures: Tensor
    sets: TokenSets | None = None


class Scores(NamedTuple):
    """Log-probabilities of the targets, `logprobs` as their ids, and without gradient `entropy (S,)`."""

    logprobs: Tensor
    entropy: Tensor


class MostLikely(NamedTuple):
    """The request for the most probable tokens of each scored row, in place of `Targets`.

    Attributes:
        targets: of the rows; their ids choose between text and image codes.
        most: `M`, how many.
    """

    targets: Targets
    most: int


class Top(NamedTuple):
    """The most probable tokens of each row, `ids (S, M)`, and their `logprobs (S, M)`, without gradient."""

    ids: Tensor
    logprobs: Tensor


def widen(tensor: Tensor) -> Tensor:
    """Return `tensor` in fp32, or in its own format if that is wider."""
    return tensor.float() if tensor.dtype in NARROW else tensor


def drawable_ids(spec: ModelSpec) -> Tensor:
    """Return `(V,)` bool, the ids of text the engine may draw: those of the tokenizer except the mask id."""
    drawable = torch.ones(spec.vocab_size, dtype=torch.bool)
    drawable[spec.num_drawable :] = False
    drawable[code_ids(spec)] = False
    if spec.mask_id is not None:
        drawable[spec.mask_id] = False
    return drawable


def code_ids(spec: ModelSpec) -> Tensor:
    """Return `(V,)` bool, the ids the engine may draw in an image: its codes."""
    codes, ids = torch.zeros(spec.vocab_size, dtype=torch.bool), spec.image_ids
    if ids is not None:
        codes[ids.image_offset : ids.image_offset + ids.num_codes] = True
    return codes


class LanguageHead(nn.Module):
    """Hidden states to token logits, or to log-probabilities of targets.

    A target that is an image code is scored among the codes, any other among the ids of text: what the engine
    could draw in its place.
    """

    drawable: Tensor
    codes: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        """Build the projection and the set of ids the engine may draw."""
        super().__init__()
        self.projection = Linear(spec.width, spec.vocab_size)
        self.has_codes = spec.image_ids is not None
        self.register_buffer("drawable", drawable_ids(spec), persistent=False)
        self.register_buffer("codes", code_ids(spec), persistent=False)

    def forward(
        self, hidden: Tensor, targets: Targets | MostLikely | None
    ) -> Tensor | Scores | Top:
        """Return raw logits `(S, V)` of `hidden (S, D)`, the `Scores` of its targets, or the `Top` of its rows."""
        if targets is None:
            return widen(self.projection(hidden))
        if isinstance(targets, MostLikely):
            return self._top(hidden, targets)
        ids, temperatures, sets = targets
        if sets is None:
            return Scores(*self._in_chunks(score_tokens, hidden, ids, temperatures))
        first = sets.first
        with torch.no_grad():
            ranking = ids[first], sets.ranking_temperature[first]
            logprobs, _ = self._in_chunks(score_tokens, hidden[first], *ranking)
        columns = sets.columns(logprobs.exp())
        return Scores(*self._in_chunks(sets.score, hidden, ids, temperatures, *columns))

    @torch.no_grad()
    def _top(self, hidden: Tensor, request: MostLikely) -> Top:
        rows, (ids, temperatures, _) = self._chunk_rows(hidden), request.targets
        parts = zip(hidden.split(rows), ids.split(rows), temperatures.split(rows), strict=True)
        found = [token_logprobs(self._logits, *part).topk(request.most) for part in parts]
        return Top(
            torch.cat([top.indices for top in found]), torch.cat([top.values for top in found])
        )

    def _chunk_rows(self, hidden: Tensor) -> int:
        return max(1, CHUNK_ELEMENTS[hidden.device.type] // self.projection.out_features)

    def _in_chunks(self, score: Score, hidden: Tensor, *columns: Tensor) -> tuple[Tensor, Tensor]:
        """Return `score` of rows, as many at a time as memory is meant for; `columns` are ids and more."""
        rows = self._chunk_rows(hidden)
        own = partial(score, self._logits)
        if hidden.shape[0] <= rows:
            return own(hidden, *columns)
        chunks = [
            checkpoint(own, *chunk, use_reentrant=False)
            for chunk in zip(hidden.split(rows), *(c.split(rows) for c in columns), strict=True)
        ]
        logprobs, entropy = (torch.cat(parts) for parts in zip(*chunks, strict=True))
        return logprobs, entropy

    def _logits(self, hidden: Tensor, ids: Tensor) -> Tensor:
        logits = widen(self.projection(hidden))
        allowed = self.drawable
        if self.has_codes:
            first = ids if ids.dim() == 1 else ids[:, 0]  # (rows,)
            allowed = torch.where(self.codes[first][:, None], self.codes, allowed)  # (rows, V)
        # In place, here and below: a copy would be as large as all of a chunk's logits.
        return logits.masked_fill_(~allowed, -torch.inf)


def token_logprobs(
    logits_of: LogitsOf, hidden: Tensor, ids: Tensor, temperatures: Tensor
) -> Tensor:
    """Return the log-probabilities `(s, V)` at each row's temperature."""
    logits = logits_of(hidden, ids)
    return logits.div_(temperatures[:, None].to(logits.dtype)).log_softmax(-1)


def score_tokens(
    logits_of: LogitsOf, hidden: Tensor, ids: Tensor, temperatures: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the log-probability of each row's tokens, `(s,)` or `(s, M)` as `ids`, and the entropy `(s,)`."""
    logprobs = token_logprobs(logits_of, hidden, ids, temperatures)
    entropy = torch.special.entr(logprobs.detach().exp()).sum(-1)
    # Cloned, here and below: FSDP2 warns of outputs that are views.
    if ids.dim() == 1:
        return logprobs.gather(1, ids[:, None])[:, 0].clone(), entropy
    return logprobs.gather(1, ids), entropy


class ValueHead(nn.Module):
    """Hidden states to values: one bias-free row of weights."""

    def __init__(self, spec: ModelSpec) -> None:
        """Start from zero: the values of an untrained critic are 0, and the advantage is the return."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, spec.width))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the values `(S,)` of `hidden (S, D)`, in fp32 or wider."""
        return F.linear(widen(hidden), widen(self.weight))[:, 0].clone()


class RMSNorm(nn.Module):
    """Root-mean-square norm: normalised and weighted in fp32 or wider, cast once at the end.

    torch's own kernel does that for a narrow format. Converting it first takes four kernels, and the backward
    pass would keep the fp32 copies.
    """

    def __init__(self, width: int, eps: float) -> None:
        """Start from weights of one."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Norm the last dimension."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
