"""`loss.kind = "boundary"`: a bound of the sequence ratio for each draw of the ELBO (BGPO, arXiv 2510.11683)."""

from typing import ClassVar, Literal

from pydantic import Field

from unmask.configs.methods.views_loss import High, Low, ViewsLoss


class BoundaryLoss(ViewsLoss):
    """BGPO: linear where the advantage is positive, exponential where it is negative."""

    kl: ClassVar[float] = 0.0
    kl_to: ClassVar[str] = "step"
    kind: Literal["boundary"] = "boundary"
    """What is minimised."""
    clip: tuple[Low, High] = (0.2, 0.2)
    """[low, high]: the bound of the ratio is clipped to 1 - low from below and 1 + high from above."""
    dual_clip: float | None = Field(default=3.0, gt=1)
    """Where the advantage A is negative the surrogate is no lower than dual_clip * A; none is no limit."""
