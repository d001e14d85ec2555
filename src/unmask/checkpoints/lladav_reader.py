"""How LLaDA-V reads conversations with images: the vectors of an image stand where its marker stands.

The token after an image, normally a line break, is dropped as in published inference, evaluation and dLLM-RL
(`models/vision/lladav_prompt.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unmask.checkpoints.image_reader import PromptTokens
from unmask.models.vision.image_codec import decode_image
from unmask.models.vision.lladav import LladavVisionSpec
from unmask.models.vision.lladav_prompt import expanded, joined_pieces, text_pieces
from unmask.types import Image, Message, PromptImage


@dataclass(frozen=True)
class LladavReader:
    """The reader.

    Attributes:
        spec: of the vision side.
        system: the turn in front of conversations without a system turn.
        start_text: text of the start token.
    """

    spec: LladavVisionSpec
    system: str | None = None
    start_text: str | None = None

    @property
    def settings(self) -> str:
        """What its tokens follow from, for caches."""
        return repr(self)

    def conversation(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return the conversation with a system turn; see `ImageReader.conversation`."""
        if self.system is None or any(message.role == "system" for message in messages):
            return messages
        return [Message("system", self.system), *messages]

    def tokens(
        self, text: str, images: Sequence[Image], encode: Callable[[str], list[int]]
    ) -> PromptTokens:
        """Return the tokens of a text; see `ImageReader.tokens`."""
        if not images:
            return PromptTokens(tuple(encode(text)))
        found = tuple(
            PromptImage(image.digest, self.spec.num_vectors(*decode_image(image).size), image)
            for image in images
        )
        pieces = [encode(piece) for piece in text_pieces(text, len(images))]
        start = encode(self.start_text)[0] if self.start_text else None
        return PromptTokens(expanded(joined_pieces(pieces, start), found), found)
