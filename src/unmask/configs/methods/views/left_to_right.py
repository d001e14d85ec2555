"""`views.kind = "left_to_right"`: every token given the tokens before it, autoregressive SFT."""

from typing import ClassVar, Literal

from pydantic import model_validator

from unmask.configs.methods import Source
from unmask.configs.methods.view_section import ViewSection


class LeftToRightViews(ViewSection):
    """One view, in blocks of one token."""

    sources: ClassVar[tuple[Source, ...]] = ("demonstrations",)
    is_causal: ClassVar[bool] = True
    kind: Literal["left_to_right"] = "left_to_right"
    """How a response becomes noisy views: `left_to_right` predicts every token from those before it,
    under a causal mask: the next-token loss where the model predicts a token in the row before it,
    else the loss of block diffusion in blocks of one token."""

    @model_validator(mode="after")
    def _has_no_other_block(self) -> "LeftToRightViews":
        if self.train_block is not None:
            raise ValueError(
                f'train_block = {self.train_block}: views.kind = "left_to_right" trains in blocks of '
                "one token; leave it out"
            )
        return self

    def refusal(self, is_full: bool, is_shifted: bool) -> str | None:
        """Return the refusal of full attention that predicts a token in its own row."""
        if is_full and not is_shifted:
            return (
                'views.kind = "left_to_right" is the next-token loss under full attention, for models '
                "that predict a token in the row before it"
            )
        return None
