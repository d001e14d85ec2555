"""The gated feed-forward of a layer, shared by all families."""

import torch.nn.functional as F
from torch import Tensor, nn

from unmask.models.linear import Linear


class FeedForward(nn.Module):
    """Gated feed-forward: `down(silu(gate(x)) * up(x))`."""

    def __init__(self, width: int, ffn_width: int) -> None:
        """Build the three projections."""
        super().__init__()
        self.gate = Linear(width, ffn_width)
        self.up = Linear(width, ffn_width)
        self.down = Linear(ffn_width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform every token of `x (T, D)` on its own."""
        return self.down(F.silu(self.gate(x)) * self.up(x))
