"""`loss.kind = "token_ratio"`: one ratio per token, of all views that predict it (arXiv 2506.20639)."""

from typing import ClassVar, Literal

from unmask.configs.methods.views_loss import AnchoredLoss, High, Low
from unmask.types import PositionReduction


class TokenRatioLoss(AnchoredLoss):
    """The clipped surrogate of a token's weighted log-probability (coupled-GRPO of DiffuCoder)."""

    bounds_likelihood: ClassVar[bool] = False
    kind: Literal["token_ratio"] = "token_ratio"
    """What is minimised."""
    clip: tuple[Low, High] = (0.5, 0.5)
    """[low, high]: the ratio is clipped to 1 - low from below and 1 + high from above; no effect in a step's
    first update, where it is 1. Published: 0.5."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """`k3` is never negative and its gradient points back, as that of `k2`; `k1` is the difference of the
    log-probabilities."""
    reduction: PositionReduction = "tokens"
    """What the loss is averaged over: every token the same (`tokens`), every response (`sequence`), or every
    response divided by `sampling.max_tokens` (`constant`)."""
