"""`views.kind = "blockwise"`: one block under noise, clean before it and hidden after it (SPG, arXiv 2510.09541)."""

from typing import Literal

from pydantic import Field

from unmask.configs.methods.mask_section import CountedMask


class BlockwiseViews(CountedMask):
    """Views as a sampler that writes block by block meets them."""

    kind: Literal["blockwise"] = "blockwise"
    """How a response becomes noisy views: `blockwise` draws a block for each view, another one each time as
    long as there are others, and hides k random tokens of its n and everything after it. Under full
    attention blocks are those of `sampling.block_size`, counted from the response."""
    context_noise: float = Field(default=0.15, ge=0, lt=1)
    """Probability with which each token of the prompt and of the blocks before is hidden too; published:
    0.15. Hidden tokens of the response are predicted."""

    @property
    def has_own_prompts(self) -> bool:
        """Whether there is noise."""
        return self.context_noise > 0

    @property
    def predicted(self) -> float:
        """What is after the block, and the noise before it."""
        return 0.5 + 0.5 * self.context_noise
