"""`views.kind = "quadrature"`: masks at fixed noise levels, the nodes of a Gauss rule (GDPO, arXiv 2510.08554)."""

from typing import ClassVar, Literal

from pydantic import Field

from unmask.configs.methods import Source
from unmask.configs.methods.mask_section import CountedMask


class QuadratureViews(CountedMask):
    """As many views as the rule has nodes, for each draw."""

    sources: ClassVar[tuple[Source, ...]] = ("pairs", "rollouts")
    kind: Literal["quadrature"] = "quadrature"
    """How a response becomes noisy views: `quadrature` hides a share of its tokens at each node of the
    Gauss-Legendre rule on [0, 1], so that the ELBO has no variance from the noise level."""
    points: int = Field(default=3, ge=1, le=64)
    """Nodes of the rule; published: 2 or 3."""

    @property
    def per_mask(self) -> int:
        """One for each node."""
        return self.points
