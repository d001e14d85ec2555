"""`loss.kind = "distilled"`: a teacher that reads a part of the right answer (d-OPSD, arXiv 2606.18195)."""

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from unmask.configs.methods import Source
from unmask.configs.section import Section
from unmask.types import Reduction


class DistilledLoss(Section):
    """The divergence from a frozen teacher, over its most probable tokens, on right responses."""

    sources: ClassVar[tuple[Source, ...]] = ("rollouts",)
    needs_hints: ClassVar[bool] = True
    kl: ClassVar[float] = 0.0
    kind: Literal["distilled"] = "distilled"
    """What is minimised."""
    direction: Literal["reverse", "forward"] = "reverse"
    """`reverse` is `KL(policy || teacher)`, as published; `forward` is `KL(teacher || policy)`."""
    top_k: int = Field(default=20, ge=1)
    """Most probable tokens of the teacher that the divergence is taken over, both sides normalised over them."""
    token_clip: float | None = Field(default=0.05, gt=0)
    """Most that one token adds to the divergence of a position, without gradient beyond; none is no limit."""
    right_from: float = 1.0
    """Lowest outcome of the task's grader that makes a response right; others have the loss 0."""
    kl_to: str = Field(default="reference", min_length=1)
    """The teacher: `reference`, the frozen model that the run starts from, or the directory or hub id of a
    frozen model."""
    reduction: Reduction = "view"
    """What the loss is averaged over; `view`, every denoising step the same, is published."""

    @field_validator("kl_to")
    @classmethod
    def _is_frozen(cls, value: str) -> str:
        if value == "step":
            raise ValueError('"step": the teacher is a frozen model: set loss.kl_to = "reference"')
        return value

    @property
    def least_right(self) -> float | None:
        """Lowest outcome of a right response, as the loss reads which are right."""
        return self.right_from
