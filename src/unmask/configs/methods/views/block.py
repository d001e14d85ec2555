"""`views.kind = "block"`: block SFT, random masks of every block in one pass (arXiv 2503.09573)."""

from typing import ClassVar, Literal

from unmask.configs.methods import Source
from unmask.configs.methods.random_mask import RandomMask


class BlockViews(RandomMask):
    """One view per mask, in which every block is noisy behind the clean blocks before it."""

    sources: ClassVar[tuple[Source, ...]] = ("demonstrations",)
    kind: Literal["block"] = "block"
    """How a response becomes noisy views: `block` hides random tokens of every block, each behind the clean
    blocks before it, in one pass; for block-causal models."""

    def refusal(self, is_full: bool, is_shifted: bool) -> str | None:
        """Return the refusal of full attention, which has no blocks."""
        if is_full:
            return (
                'views.kind = "block" is for block-causal models: use "random" (one noise level per '
                'response) or "semi_ar" (blocks in order)'
            )
        return super().refusal(is_full, is_shifted)
