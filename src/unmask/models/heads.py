"""Heads: what is read off the hidden states of the scored rows.

The language head has two faces. Without targets it returns raw fp32 logits, for samplers. With
targets it returns the log-probability of each target and the entropy of its distribution, in the
one definition both the engine and the learner use: fp32, at the trajectory's temperature, over the
ids the engine may draw. Full `(T, V)` logits never exist in training: rows are scored in chunks,
recomputed in the backward pass.

The value head reads one number: what the rest of the response is expected to earn.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unmask.models.spec import ModelSpec

# Logits held at a time when scoring: 64 MiB of them on CPU, where a second chunk would cost a second
# gradient of the head's weight, as large as that. A GPU wants its rows by the thousand.
CHUNK_ELEMENTS = {"cpu": 2**24, "cuda": 2**27}
NARROW = (torch.bfloat16, torch.float16)


class Targets(NamedTuple):
    """What is scored at each scored row.

    Attributes:
        ids: `(S,)` token ids.
        temperatures: `(S,)` the temperature each was drawn at.
    """

    ids: Tensor
    temperatures: Tensor


class Scores(NamedTuple):
    """The language head's judgement of the targets: `logprobs (S,)` and, without gradient, `entropy (S,)`."""

    logprobs: Tensor
    entropy: Tensor


def widen(tensor: Tensor) -> Tensor:
    """Return `tensor` in fp32, or in its own format if that is wider."""
    return tensor.float() if tensor.dtype in NARROW else tensor


def drawable_ids(spec: ModelSpec) -> Tensor:
    """Return `(V,)` bool, the ids the engine may draw: those the tokenizer knows, the mask id excepted."""
    drawable = torch.ones(spec.vocab_size, dtype=torch.bool)
    drawable[spec.num_drawable :] = False
    if spec.mask_id is not None:
        drawable[spec.mask_id] = False
    return drawable


class LanguageHead(nn.Module):
    """Hidden states to token logits, or to log-probabilities of targets."""

    drawable: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        """Build the projection and the set of ids the engine may draw."""
        super().__init__()
        self.projection = nn.Linear(spec.width, spec.vocab_size, bias=False)
        self.register_buffer("drawable", drawable_ids(spec), persistent=False)

    def forward(self, hidden: Tensor, targets: Targets | None) -> Tensor | Scores:
        """Return raw logits `(S, V)` of `hidden (S, D)`, or the `Scores` of its targets."""
        if targets is None:
            return widen(self.projection(hidden))
        rows = max(1, CHUNK_ELEMENTS[hidden.device.type] // self.projection.out_features)
        if hidden.shape[0] <= rows:
            return Scores(*self._score(hidden, *targets))
        chunks = [
            checkpoint(self._score, *chunk, use_reentrant=False)
            for chunk in zip(hidden.split(rows), *(t.split(rows) for t in targets), strict=True)
        ]
        return Scores(*(torch.cat(parts) for parts in zip(*chunks, strict=True)))

    def _score(self, hidden: Tensor, ids: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor]:
        logits = widen(self.projection(hidden))
        # In place: each copy that is not made is as large as all of a chunk's logits.
        logits.div_(temperatures[:, None].to(logits.dtype)).masked_fill_(~self.drawable, -torch.inf)
        logprobs = logits.log_softmax(-1)  # (rows, V)
        del logits
        entropy = torch.special.entr(logprobs.detach().exp()).sum(-1)
        # Cloned, here and below: FSDP2 warns of outputs that are views.
        return logprobs.gather(1, ids[:, None])[:, 0].clone(), entropy


class ValueHead(nn.Module):
    """Hidden states to values: one bias-free row of weights."""

    def __init__(self, spec: ModelSpec) -> None:
        """Start from zero: an untrained critic says nothing, and the advantage is the return."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, spec.width))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the values `(S,)` of `hidden (S, D)`, in fp32 or wider."""
        return F.linear(widen(hidden), widen(self.weight))[:, 0].clone()


class RMSNorm(nn.Module):
    """Root-mean-square norm: normalised and weighted in fp32 or wider, cast once at the end."""

    def __init__(self, width: int, eps: float) -> None:
        """Start from weights of one."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Norm the last dimension."""
        weight = widen(self.weight)
        return F.rms_norm(widen(x), weight.shape, weight, self.eps).to(x.dtype)
