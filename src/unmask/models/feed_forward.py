"""The gated feed-forward of a layer, shared by all families."""

import torch.nn.functional as F
from torch import Tensor, nn


class FeedForward(nn.Module):
    """Gated feed-forward: `down(silu(gate(x)) * up(x))`."""

    def __init__(self, width: int, ffn_width: int) -> None:
        """Build the three projections."""
        super().__init__()
        self.gate = nn.Linear(width, ffn_width, bias=False)
        self.up = nn.Linear(width, ffn_width, bias=False)
        self.down = nn.Linear(ffn_width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform every token of `x (T, D)` on its own."""
        return self.down(F.silu(self.gate(x)) * self.up(x))
