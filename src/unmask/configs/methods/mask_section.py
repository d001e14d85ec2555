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
    def predicted(self) -> float:
        """Share of the response that a view predicts, on average."""
        return 0.5
