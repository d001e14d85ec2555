"""`views.kind = "counted"`: random masks that hide a drawn number of tokens (ESPO, BGPO, EBPO)."""

from typing import ClassVar, Literal

from unmask.configs.methods import Source
from unmask.configs.methods.mask_section import CountedMask


class CountedViews(CountedMask):
    """One view per mask, or with its complement two."""

    sources: ClassVar[tuple[Source, ...]] = ("pairs", "rollouts")
    kind: Literal["counted"] = "counted"
    """How a response becomes noisy views: `counted` hides k random tokens of n, where k is uniform on 1, ...,
    n; with their complements on 0, ..., n."""
    level: Literal["response", "block"] = "response"
    """What k is drawn for: the `response`, or each `block` on its own (EBPO; under full attention that is the
    response)."""
    spread: Literal["independent", "cyclic"] = "independent"
    """How the numbers of the masks of one response are related: `independent` draws each, `cyclic` spaces
    them evenly from a drawn start, around the end (BGPO)."""
    coupled: bool = False
    """A second view per mask that hides the other tokens; each of the two then weighs half (ESPO)."""

    @property
    def per_mask(self) -> int:
        """Two with complements."""
        return 2 if self.coupled else 1

    def noisy_share(self, block: int) -> float:
        """Return 1 where each block has a hidden token of its own."""
        return 1.0 if self.level == "block" and not self.coupled else super().noisy_share(block)
