"""`loss.kind = "sandwich"`: a lower bound where the advantage is positive, an upper one elsewhere (SPG)."""

from typing import ClassVar, Literal

from pydantic import Field

from unmask.configs.methods.views_loss import ViewsLoss
from unmask.types import PositionReduction


class SandwichLoss(ViewsLoss):
    """SPG (arXiv 2510.09541): policy gradient between two bounds of the log-likelihood, without a ratio."""

    kl: ClassVar[float] = 0.0
    kl_to: ClassVar[str] = "step"
    kind: Literal["sandwich"] = "sandwich"
    """What is minimised."""
    beta: float = Field(default=1.5, ge=1)
    """Order of the Renyi upper bound; published: 1 to 2."""
    mix: float = Field(default=0.5, ge=0, le=1)
    """Share of the upper bound where the advantage is negative; the rest is the lower bound. 1 is the upper
    bound alone, 0 the lower bound for both signs."""
    reduction: PositionReduction = "tokens"
    """What the loss is averaged over: every token the same (`tokens`, published), every response (`sequence`),
    or every response divided by `sampling.max_tokens` (`constant`)."""
