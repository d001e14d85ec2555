"""`loss.kind = "dpo"`: which of two answers is preferred (DPO, arXiv 2305.18290; VRPO, arXiv 2505.19223)."""

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from unmask.configs.methods import Source
from unmask.configs.section import Section


class DPOLoss(Section):
    """The logistic loss of the difference of two log-likelihoods, each relative to a frozen reference."""

    sources: ClassVar[tuple[Source, ...]] = ("pairs",)
    kind: Literal["dpo"] = "dpo"
    """What is minimised."""
    beta: float = Field(default=0.1, gt=0)
    """Weight of the difference: the larger, the closer the policy stays to the reference."""
    normalize: Literal["none", "length"] = "none"
    """`length` divides the log-likelihood of an answer by its number of tokens; beta is then larger, 2 or
    more."""
    sft: float = Field(default=0.0, ge=0)
    """Weight of the negative log-likelihood of the preferred answer, per token; 0 is plain DPO."""
    kl_to: str = Field(default="reference", min_length=1)
    """The frozen model: `reference` is the one that the run starts from; anything else is a directory or
    hub id."""

    @field_validator("kl_to")
    @classmethod
    def _is_frozen(cls, kl_to: str) -> str:
        if kl_to == "step":
            raise ValueError(
                "kl_to = step: pairs have no rollout step whose policy could be measured from: set "
                "reference, or a directory"
            )
        return kl_to
