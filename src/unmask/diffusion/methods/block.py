"""Random masks of every block in one pass: `views.kind = "random"` where attention is block-causal."""

from unmask.diffusion.methods.random import of_demonstrations

__all__ = ["of_demonstrations"]
