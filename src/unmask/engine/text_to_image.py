"""Text-to-image: from a text to the request of an image, and from its codes to a picture.

An image is a response whose canvas is its N codes and the token of its end, which is pinned: an ordinary request,
whose ids are restricted to the codes (`engine/request.py: params_of_image`). The defaults are MMaDA's published
sampler (`presets.py: mmada_image`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import TYPE_CHECKING, Self

import torch

from unmask.checkpoints.image_reader import ImageReader
from unmask.checkpoints.mmada_reader import MmadaReader
from unmask.models.spec import ModelSpec
from unmask.models.vision.magvit import Magvit, uint8_from_pixels
from unmask.models.vision.mmada_prompt import MmadaIds, drawing_prompt, image_tokens
from unmask.types import Message, Prompt, Trajectory

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


@dataclass(frozen=True, slots=True)
class Drawing:
    """An image that a model drew.

    Attributes:
        text: what was asked for.
        codes: `N`, row by row.
        trajectory: the response, whose canvas ends in the token of the image's end.
        picture: in RGB; `None` without an image tokenizer.
    """

    text: str
    codes: tuple[int, ...]
    trajectory: Trajectory
    picture: "Picture | None" = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TextToImage:
    """What makes requests of texts and pictures of responses.

    Attributes:
        ids: of the model.
        encode: text to token ids.
        codec: codes to pixels; `None` makes no pictures.
    """

    ids: MmadaIds
    encode: Callable[[str], Sequence[int]]
    codec: Magvit | None = None

    @classmethod
    def of(
        cls, spec: ModelSpec, encode: Callable[[str], Sequence[int]], reader: ImageReader
    ) -> Self:
        """Return that of a model.

        Args:
            spec: of the model.
            encode: text to token ids.
            reader: of its prompts, which holds the image tokenizer.

        Raises:
            ValueError: if the model draws no images, or Pillow is not installed.
        """
        if spec.image_ids is None:
            raise ValueError(
                f"{spec.family} draws no images here: its config.json has no image_token_ids"
            )
        codec = reader.codec if isinstance(reader, MmadaReader) else None
        if codec is not None:
            _pillow()  # before the time of drawing is spent
        return cls(spec.image_ids, encode, codec)

    def prompt(self, text: str) -> Prompt:
        """Return the prompt of an image; guidance reads the empty text.

        Raises:
            ValueError: if the text is too long.
        """
        return self.prompt_of(Prompt("draw", 0, (Message("user", text),)))

    def prompt_of(self, prompt: Prompt) -> Prompt:
        """Return a prompt whose only message is the text of an image, with its token ids.

        Raises:
            ValueError: if the text is too long, or there are several messages.
        """
        if len(prompt.messages) != 1:
            raise ValueError(
                f"prompt {prompt.uid} of task {prompt.task!r} has {len(prompt.messages)} messages: an image is "
                "drawn of one"
            )
        text = self.encode(prompt.messages[0].content)
        return replace(
            prompt,
            token_ids=tuple(drawing_prompt(text, self.ids)),
            unconditional_ids=tuple(drawing_prompt((), self.ids)),
        )

    def demonstration(self, text: str, codes: Sequence[int]) -> dict[str, list[int]]:
        """Return the record of an image for SFT, as `data.path` reads it, with `views.kind = "image"`.

        Raises:
            ValueError: if the text is too long, or a code does not exist.
        """
        _, *response_ids = image_tokens(codes, self.ids)  # the prompt ends with the start
        return {"prompt_ids": list(self.prompt(text).token_ids), "response_ids": response_ids}

    def drawing(self, trajectory: Trajectory) -> Drawing:
        """Return the image of a response."""
        tokens = trajectory.canvas_ids[: self.ids.side**2]
        codes = tuple(token - self.ids.image_offset for token in tokens)
        picture = None if self.codec is None else picture_of(codes, self.codec)
        return Drawing(trajectory.prompt.messages[0].content, codes, trajectory, picture)


@torch.inference_mode()
def picture_of(codes: Sequence[int], codec: Magvit) -> "Picture":
    """Return the square image of codes, in RGB.

    Raises:
        ValueError: if Pillow is not installed.
    """
    side = round(len(codes) ** 0.5)
    grid = torch.tensor(codes, device=next(codec.parameters()).device).view(1, side, side)
    return _pillow().fromarray(uint8_from_pixels(codec.decode(grid))[0].cpu().numpy())


def _pillow() -> ModuleType:
    try:
        from PIL import Image as pillow
    except ImportError as error:
        raise ValueError("images are made by Pillow: pip install 'unmask[vision]'") from error
    return pillow
