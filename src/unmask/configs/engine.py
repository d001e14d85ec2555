"""`[engine]`: how large the engine is, and how it runs."""

from typing import Literal

from pydantic import Field

from unmask.configs.section import Section


class EngineConfig(Section):
    """How large the engine is; no result depends on it, unless `cache` is approximate."""

    slots: int = Field(default=256, ge=1, le=2**16)
    """Responses written at the same time."""
    row_budget: int | None = Field(default=None, ge=1, le=2**24)
    """Most tokens one forward pass feeds; longer prompts are fed in chunks, and full-attention
    sequences take turns. 2,048 on CPU and 16,384 on CUDA when not given."""
    cache_tokens: int | None = Field(default=None, ge=1, le=2**30)
    """Tokens whose keys and values are held at most, in whole pages of 64 and at least one; without a
    bound on CPU and as many as the memory allows on CUDA when not given."""
    shares_prefixes: bool = True
    """Compute the common beginning of prompts once."""
    cache: Literal["exact", "prefix", "dual", "window"] = "exact"
    """What a full-attention model keeps between denoising steps: nothing (`exact`), or what is left
    of the block (`prefix`), outside it (`dual`), or left of it with a view of `horizon` slots to the
    right (`window`). Block-causal models are always exact, except that `dual` keeps what is outside
    the open sub-block. All but `exact` are approximations."""
    horizon: int = Field(default=128, ge=0)
    """Slots right of the block that `cache = "window"` sees."""
