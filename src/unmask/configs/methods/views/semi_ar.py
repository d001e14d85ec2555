"""`views.kind = "semi_ar"`: random masks of one block after the other, semi-autoregressive SFT."""

from typing import ClassVar, Literal

from unmask.configs.methods import Source
from unmask.configs.methods.random_mask import RandomMask


class SemiARViews(RandomMask):
    """One view per block and mask: earlier blocks clean, later blocks hidden."""

    sources: ClassVar[tuple[Source, ...]] = ("demonstrations",)
    kind: Literal["semi_ar"] = "semi_ar"
    """How a response becomes noisy views: `semi_ar` takes its blocks in order. Under full attention each
    has a view of its own, with earlier blocks clean and later ones hidden; `views.train_block` is then
    the block size, counted from the response. In block-causal models no block reads a later one, so
    one pass trains all, as `block` does."""

    def refusal(self, is_full: bool, is_shifted: bool) -> str | None:
        """Return the refusal of full attention without blocks."""
        if is_full and not self.train_blocks:
            return 'views.kind = "semi_ar" needs views.train_block where attention is full'
        return None
