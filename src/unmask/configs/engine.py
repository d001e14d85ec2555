"""`[engine]`: the size of the engine, and its cache."""

from dataclasses import dataclass
from typing import Annotated, Literal

from unmask.bounds import Bound
from unmask.configs.section import Section

# `auto`, then the files of `engine/attention_backends/`.
AttentionKind = Literal["auto", "plain", "kernel", "varlen", "flex"]
# Only `exact`, which keeps nothing of a full-attention model, gives the model's own log-probabilities.
CacheMode = Literal["exact", "prefix", "dual", "window"]


@dataclass(frozen=True)
class EngineFields:
    """The options that `EngineParams` and `[engine]` share."""

    max_sequences: Annotated[int, Bound(ge=1, le=2**16)] = 256
    """Responses written at the same time."""
    row_budget: Annotated[int | None, Bound(ge=1, le=2**24)] = None
    """Maximum number of tokens in one forward pass. Longer prompts are split into chunks, and
    full-attention sequences take turns; a pass always holds at least one sequence's block, or canvas.
    2,048 on CPU and 16,384 on CUDA if not given."""
    cache_tokens: Annotated[int | None, Bound(ge=1, le=2**30)] = None
    """Maximum number of tokens whose keys and values are cached, in whole pages of 64, at least one. When
    the cache is full, requests wait and the youngest give their pages back. If not given: unbounded on
    CPU, as many as the memory allows on CUDA."""
    shares_prefixes: Annotated[bool, Bound()] = True
    """Compute the common beginning of prompts once."""
    cache: CacheMode = "exact"
    """Keys and values that a full-attention model keeps between denoising steps: none (`exact`), those
    left of the current block (`prefix`), all outside it (`dual`), or those left of it, where the block
    sees `horizon` positions to its right (`window`). Block-causal models are always exact, except that
    `dual` keeps everything outside the open sub-block. All modes except `exact` are approximations."""
    horizon: Annotated[int, Bound(ge=0, le=2**31 - 1)] = 128
    """Positions to the right of the block that `cache = "window"` sees."""
    attention: AttentionKind = "auto"
    """Implementation of attention over the cache: PyTorch on any device (`plain`), the Triton kernel of this
    package (`kernel`), torch's `varlen_attn` (`varlen`, from torch 2.13 on) or FlexAttention (`flex`).
    `auto` is `plain` on CPU, and on CUDA the one that is fastest there when measured, `flex` excepted. The last bits of
    results depend on it."""


class EngineConfig(Section, EngineFields):  # pyright: ignore[reportGeneralTypeIssues] - frozen by pydantic
    """The size of the engine. Results do not depend on it, unless `cache` is approximate."""
