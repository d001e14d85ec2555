"""`views.kind = "block_steps"`: one denoising step of every block, all in one view (dTRPO, arXiv 2603.18806)."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from unmask.configs.methods import Source
from unmask.configs.methods.mask_section import CountedMask


class BlockStepsViews(CountedMask):
    """One view per draw, in which each block is at a denoising step of its own."""

    sources: ClassVar[tuple[Source, ...]] = ("pairs",)
    kind: Literal["block_steps"] = "block_steps"
    """How an answer becomes noisy views: `block_steps` draws a denoising step for each block, hides what it
    and later ones reveal, and predicts what it reveals (dTRPO). Under full attention an answer is one block."""
    order: Literal["random", "recorded"] = "random"
    """The order in which a block is revealed: `random`, drawn for each view, or `recorded`, the step maps of the
    answers."""
    per_step: int = Field(default=1, ge=1)
    """Tokens that a denoising step reveals under `random`; the last one of a block may have fewer."""

    @property
    def needs_step_map(self) -> bool:
        """Whether the answers are trained in their recorded order."""
        return self.order == "recorded"

    def noisy_share(self, block: int) -> float:
        """Return 1: every block has a hidden token."""
        return 1.0

    @model_validator(mode="after")
    def _has_an_effect(self) -> "BlockStepsViews":
        if self.order == "recorded" and self.per_step > 1:
            raise ValueError(
                f'per_step = {self.per_step} has no effect with order = "recorded": the step maps tell what a '
                "step reveals"
            )
        return self
