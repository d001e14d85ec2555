"""`loss.kind = "gdsd"`: the change of the log-probabilities is fitted to the advantage (arXiv 2605.29398)."""

from typing import ClassVar, Literal

from pydantic import Field

from unmask.configs.methods.views_loss import AnchoredLoss, High, Low


class GDSDLoss(AnchoredLoss):
    """Guided denoiser self-distillation: a squared error, without a ratio."""

    bounds_likelihood: ClassVar[bool] = False
    kind: Literal["gdsd"] = "gdsd"
    """What is minimised."""
    psi: float = Field(default=1.0, gt=0)
    """Factor of the advantage that the change per token is fitted to; published: 10 for GSM8K."""
    clip: tuple[Low, High] = (0.2, 0.2)
    """[low, high]: the change of a draw is clamped to between log(1 - low) and log(1 + high), and has no
    gradient beyond."""
