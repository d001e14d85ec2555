"""How large an engine is, and how it runs: what does not depend on any request."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch

# What is kept of a full-attention model's keys and values between the steps of a block. Only `exact`,
# which keeps nothing, gives the model's own numbers.
CacheMode = Literal["exact", "prefix", "dual", "window"]
AttentionKind = Literal["auto", "plain", "kernel"]

# What a pass of each kind of device holds well: on CPU more rows only outgrow the caches.
ROW_BUDGETS = {"cpu": 2048, "cuda": 16384}


@dataclass(frozen=True, slots=True)
class EngineParams:
    """Size and mode of an engine.

    Attributes:
        max_slots: responses written at the same time.
        row_budget: most tokens one forward pass feeds; the prompts of new requests are fed in
            chunks when more wait, and full-attention sequences take turns. A pass always holds at
            least one sequence's block, or canvas. `None` is what suits the device.
        cache_tokens: tokens whose keys and values the cache holds at most, in whole pages of 64
            and at least one; `None` is no bound on CPU and what the memory allows on CUDA. Requests
            wait, and the youngest give their pages back, when it is full.
        fuses_commit: write a finished block's clean keys and values in the first pass of the next
            block. Exact either way; without it every block costs one more forward pass.
        shares_prefixes: prompts with the same beginning share its keys and values.
        cache: what a full-attention model keeps between steps: `exact` nothing; `prefix` everything
            left of the current block, from the block's first pass; `dual` everything but the block;
            `window` as `prefix`, and sees nothing more than `horizon` slots right of the block.
            Block-causal models are always exact, except that `dual` keeps what is outside the open
            sub-block.
        horizon: slots right of the block that `window` sees.
        attention: `kernel` is Triton's, on CUDA; `plain` runs anywhere; `auto` is the kernel where
            there is one.
        reads_late: the host reads what a tick did while the next one runs, and chooses the sizes of
            a pass before it knows what there is to do; `None` is on CUDA only. No result depends
            on it.
        uses_graphs: on CUDA, capture a step of each size once and replay it.
        packs_weights: on CPU in fp32, keep a second copy of the linear weights in the layout oneDNN
            multiplies fastest (`models/cpu/prepacked_linear.py`).
    """

    max_slots: int = 256
    row_budget: int | None = None
    cache_tokens: int | None = None
    fuses_commit: bool = True
    shares_prefixes: bool = True
    cache: CacheMode = "exact"
    horizon: int = 128
    attention: AttentionKind = "auto"
    reads_late: bool | None = None
    uses_graphs: bool = True
    packs_weights: bool = False

    def __post_init__(self) -> None:
        """Refuse what no engine could be."""
        for name, low in (("max_slots", 1), ("row_budget", 1), ("cache_tokens", 1), ("horizon", 0)):
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{name} = {value}: must be at least {low}")
        for name, kind in (("cache", CacheMode), ("attention", AttentionKind)):
            if getattr(self, name) not in get_args(kind):
                names = ", ".join(get_args(kind))
                raise ValueError(f"{name} = {getattr(self, name)!r}: must be one of {names}")

    def on(self, device: torch.device) -> "EngineParams":
        """Return them with what was left to the device filled in."""
        is_cuda = device.type == "cuda"
        return replace(
            self,
            row_budget=self.row_budget or ROW_BUDGETS["cuda" if is_cuda else "cpu"],
            reads_late=is_cuda if self.reads_late is None else self.reads_late,
        )
