"""The conventions of a model that a sampler and the training layout depend on."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Conventions:
    """The conventions of a model; `unmask.models.conventions.conventions_of` builds it.

    Attributes:
        mask_id: the mask token.
        drawable: `(V,)` bool, the ids that may be written.
        is_full: whether attention is full; otherwise it is block-causal.
        is_shifted: whether row i of the logits predicts position i + 1.
        codes: `(V,)` bool, the ids that may be written in an image; `None` in a text model.
    """

    mask_id: int
    drawable: Tensor
    is_full: bool = False
    is_shifted: bool = False
    codes: Tensor | None = None

    @property
    def first_is_alone(self) -> bool:
        """Whether a block's first position, predicted by the block before, is revealed before the others."""
        return self.is_shifted and not self.is_full
