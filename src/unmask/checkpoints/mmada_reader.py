"""How MMaDA reads conversations with images: their codes are tokens in front of the conversation.

    mmu soi c_1 ... c_N eoi [soi ... eoi of each further image] text

The markers in the text, and a line break after each, are dropped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b

import torch

from unmask.checkpoints.image_reader import PromptTokens
from unmask.images import MARKER, ImagePreprocess, check_markers
from unmask.models.vision.image_codec import decode_image
from unmask.models.vision.image_preprocess import pixels_from_picture, square_of
from unmask.models.vision.magvit import Magvit
from unmask.models.vision.mmada_prompt import MmadaIds, image_tokens
from unmask.types import Image, Message

# Images whose codes are kept: some 40 KiB each in released checkpoints.
MOST_KEPT = 10_000


@dataclass(frozen=True)
class MmadaReader:
    """The reader.

    Attributes:
        ids: of the model.
        codec: makes codes of pixels; `None` refuses images.
        preprocess: how an image becomes a square.
    """

    ids: MmadaIds
    codec: Magvit | None = field(default=None, repr=False)
    preprocess: ImagePreprocess = "pad"
    # Codes of each image by its digest.
    _codes: dict[bytes, list[int]] = field(default_factory=dict[bytes, list[int]], repr=False)

    @property
    def settings(self) -> str:
        """What its tokens follow from, for caches."""
        return self._settings

    @cached_property
    def _settings(self) -> str:  # reads all weights of the codec
        state = blake2b(digest_size=16)
        for weight in self.codec.parameters() if self.codec else ():
            state.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return f"{self!r} {state.hexdigest()}"

    def conversation(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return the messages; see `ImageReader.conversation`."""
        return messages

    def tokens(
        self, text: str, images: Sequence[Image], encode: Callable[[str], list[int]]
    ) -> PromptTokens:
        """Return the tokens of a text; see `ImageReader.tokens`."""
        if not images:
            return PromptTokens(tuple(encode(text)))
        check_markers(text, len(images))
        text = text.replace(f"{MARKER}\n", "").replace(MARKER, "")
        codes = [token for image in images for token in image_tokens(self.codes(image), self.ids)]
        return PromptTokens((self.ids.understanding, *codes, *encode(text)))

    @torch.inference_mode()
    def codes(self, image: Image) -> list[int]:
        """Return the codes of an image, row by row.

        Raises:
            ValueError: naming the image that cannot be read; or there is no codec.
        """
        if self.codec is None:
            raise ValueError(
                f"{image.name}: this model reads images as codes: set model.image_codec, or --image-codec, to "
                "the directory of their tokenizer (MAGVIT-v2)"
            )
        found = self._codes.get(image.digest)
        if found is None:
            side = self.ids.side * self.codec.spec.scale
            pixels = pixels_from_picture(square_of(decode_image(image), side, self.preprocess))
            codes = self.codec.encode(pixels[None].to(next(self.codec.parameters())))
            if len(self._codes) >= MOST_KEPT:
                self._codes.clear()
            found = self._codes[image.digest] = codes.flatten().tolist()
        return found
