"""The keys of views whose masks hide a counted number of tokens."""

from pydantic import Field

from unmask.configs.methods.view_section import ViewSection


class CountedMask(ViewSection):
    """Masks that hide an exact number of tokens; `per_mask` views of each, which predict a share of them."""

    count: int = Field(default=1, ge=1, le=1024)
    """Masks of each response; in block-causal models their views share one clean copy."""

    @property
    def per_mask(self) -> int:
        """Views of each mask."""
        return 1

    @property
    def has_own_prompts(self) -> bool:
        """Whether views hide different tokens of the prompt, so that they share no clean copy of it."""
        return False

    @property
    def predicted(self) -> float:
        """Share of the response that a view predicts, on average."""
        return 0.5

    def noisy_share(self, block: int) -> float:
        """Return the share of blocks with a target in a view, in expectation: E[1 - (1 - t)^block]."""
        return 1 - 1 / (block + 1)
