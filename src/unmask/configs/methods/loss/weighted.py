"""`loss.kind = "weighted"`: the log-likelihood weighted by the advantage, without a ratio (wd1, arXiv 2507.08838)."""

from typing import ClassVar, Literal

from unmask.configs.methods import Source
from unmask.configs.section import Section
from unmask.types import Reduction


class WeightedLoss(Section):
    """The weighted log-likelihood, without ratio, clip or KL penalty."""

    sources: ClassVar[tuple[Source, ...]] = ("rollouts",)
    kl: ClassVar[float] = 0.0
    kl_to: ClassVar[str] = "step"
    kind: Literal["weighted"] = "weighted"
    """What is minimised."""
    reduction: Reduction = "constant"
    """What the loss is averaged over; `constant` is published, and divides by `sampling.max_tokens`."""
