"""`views.kind = "image"`: hidden codes of images, for SFT on pairs of text and image."""

from typing import ClassVar, Literal

from pydantic import Field

from unmask.configs.methods import Source
from unmask.configs.methods.view_section import ViewSection


class ImageViews(ViewSection):
    """MMaDA's training of text-to-image: a share of an image's codes, by the cosine of a uniform number."""

    sources: ClassVar[tuple[Source, ...]] = ("demonstrations",)
    kind: Literal["image"] = "image"
    """How a response becomes noisy views: `image` hides `cos(pi/2 u)` of the codes of an image, with u uniform, and
    never the token of its end."""
    count: int = Field(default=1, ge=1, le=1024)
    """Independent masks of each image."""
    drop_text: float = Field(default=0.1, ge=0, le=1)
    """Probability that an image is trained under the empty text, which guidance reads."""

    def refusal(self, is_full: bool, is_shifted: bool) -> str | None:
        """Return why a kind of model cannot be trained on these views; None if it can."""
        if not is_full or is_shifted:
            return 'views.kind = "image" is for models that draw, with full attention and no shift'
        return super().refusal(is_full, is_shifted)
