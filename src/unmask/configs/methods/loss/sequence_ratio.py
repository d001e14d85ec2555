"""`loss.kind = "sequence_ratio"`: one ratio per response, of estimates of its log-likelihood (ESPO, GDPO, EBPO)."""

from typing import Literal

from unmask.configs.methods.views_loss import AnchoredLoss, High, Low


class SequenceRatioLoss(AnchoredLoss):
    """The clipped surrogate of a response."""

    kind: Literal["sequence_ratio"] = "sequence_ratio"
    """What is minimised."""
    clip: tuple[Low, High] = (0.2, 0.2)
    """[low, high]: the ratio is clipped to 1 - low from below and 1 + high from above; no effect in a step's
    first update, where it is 1."""
    normalize: Literal["ratio", "loss", "none"] = "ratio"
    """What is divided by the number of tokens of a response: the logarithm of the ratio (ESPO), the
    surrogate (GDPO), or neither (EBPO). The KL penalty is divided by it unless `none`."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k2"
    """Estimator of the KL divergence from the difference of two estimates of the log-likelihood; `k3` grows
    exponentially with it."""
