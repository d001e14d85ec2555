"""Heads: functions of the hidden states of the scored rows.

Without targets the language head returns raw fp32 logits, for samplers. With targets it returns the
log-probability of each target and the entropy of its distribution, in the one definition that engine
and learner share: fp32, at the trajectory's temperature, over the ids the engine may draw. Full `(T, V)`
logits never exist in training: rows are scored in chunks, recomputed in the backward pass.

The value head returns one number per row: the expected return of the rest of the response.
"""

from typing import NamedTuple

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


class Targets(NamedTuple):
    """The token scored at each scored row.

    Attributes:
        ids: `(S,)` token ids, or `(S, M)`: the token, and others that are scored in its place.
        temperatures: `(S,)` temperature at which each was drawn.
    """

    ids: Tensor
    temperatures: Tensor


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
        rows = max(1, CHUNK_ELEMENTS[hidden.device.type] // self.projection.out_features)
        if isinstance(targets, MostLikely):
            return self._top(hidden, targets, rows)
        if hidden.shape[0] <= rows:
            return Scores(*self._score(hidden, *targets))
        chunks = [
            checkpoint(self._score, *chunk, use_reentrant=False)
            for chunk in zip(hidden.split(rows), *(t.split(rows) for t in targets), strict=True)
        ]
        return Scores(*(torch.cat(parts) for parts in zip(*chunks, strict=True)))

    @torch.no_grad()
    def _top(self, hidden: Tensor, request: MostLikely, rows: int) -> Top:
        parts = zip(hidden.split(rows), *(t.split(rows) for t in request.targets), strict=True)
        found = [self._logprobs(*part).topk(request.most) for part in parts]
        return Top(
            torch.cat([top.indices for top in found]), torch.cat([top.values for top in found])
        )

    def _score(self, hidden: Tensor, ids: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor]:
        logprobs = self._logprobs(hidden, ids, temperatures)
        entropy = torch.special.entr(logprobs.detach().exp()).sum(-1)
        # Cloned, here and below: FSDP2 warns of outputs that are views.
        if ids.dim() == 1:
            return logprobs.gather(1, ids[:, None])[:, 0].clone(), entropy
        return logprobs.gather(1, ids), entropy

    def _logprobs(self, hidden: Tensor, ids: Tensor, temperatures: Tensor) -> Tensor:
        logits = widen(self.projection(hidden))
        allowed = self.drawable
        if self.has_codes:
            first = ids if ids.dim() == 1 else ids[:, 0]  # (rows,)
            allowed = torch.where(self.codes[first][:, None], self.codes, allowed)  # (rows, V)
        # In place: a copy would be as large as all of a chunk's logits.
        logits.div_(temperatures[:, None].to(logits.dtype)).masked_fill_(~allowed, -torch.inf)
        return logits.log_softmax(-1)  # (rows, V)


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
