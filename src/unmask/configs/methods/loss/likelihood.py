"""`loss.kind = "likelihood"`: the negative log-likelihood of hidden tokens."""

from typing import ClassVar, Literal

from unmask.configs.methods import Source
from unmask.configs.section import Section
from unmask.types import Reduction


class LikelihoodLoss(Section):
    """Masked prediction, or a bound on the likelihood."""

    sources: ClassVar[tuple[Source, ...]] = ("demonstrations",)
    kind: Literal["likelihood"] = "likelihood"
    """What is minimised."""
    weight: Literal["one", "elbo"] = "one"
    """Weight of a hidden token: 1, or 1/t, which makes the loss a bound on the likelihood."""
    reduction: Reduction = "tokens"
    """What the loss is averaged over. `tokens` counts every hidden token the same; `view` (published
    for full attention) every noisy view, so that a token counts about 1/t; `sequence` every
    demonstration; `constant` (published for blocks) divides by views x the longest response."""
