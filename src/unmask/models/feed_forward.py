"""The gated feed-forward of a layer, shared by all families."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unmask.models.linear import Linear


class FeedForward(nn.Module):
    """Gated feed-forward: `down(silu(gate(x)) * up(x))`.

    In training it keeps `gate(x)` and `up(x)` alone. The two other tensors of that width are computed again in the
    backward pass, from the same numbers to the same bits; the product with `down` is not: recomputation stops at its
    input.
    """

    def __init__(self, width: int, ffn_width: int) -> None:
        """Build the three projections."""
        super().__init__()
        self.gate = Linear(width, ffn_width)
        self.up = Linear(width, ffn_width)
        self.down = Linear(ffn_width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform every token of `x (T, D)` on its own."""
        gate, up = self.gate(x), self.up(x)
        # Adapters and other products would be computed again; a compiled layer fuses the chain by itself.
        is_plain = getattr(self.down, "multiply", None) is F.linear
        if is_plain and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return checkpoint(
                self._join,
                gate,
                up,
                use_reentrant=False,
                preserve_rng_state=False,
                determinism_check="none",
            )
        return self._join(gate, up)

    def _join(self, gate: Tensor, up: Tensor) -> Tensor:
        return self.down(F.silu(gate) * up)
