"""An `LLM` that reads images: a toy model with vectors of an image drawn from its pixels, and a reader for it."""

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b
from io import BytesIO
from pathlib import Path

from PIL import Image as pillow

from tests.engine.pictures import RandomVision
from tests.toy import toy_checkpoint
from unmask.checkpoints.image_reader import PromptTokens
from unmask.engine.llm import LLM
from unmask.engine.options import EngineParams
from unmask.images import MARKER, Image, check_markers
from unmask.models.vision.image_codec import decode_image
from unmask.types import Message, PromptImage

NUM_VECTORS = 9


class ToyReader:
    """A reader that gives each image `NUM_VECTORS` and drops the line break after its marker."""

    settings = "toy"

    def conversation(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return the messages."""
        return messages

    def tokens(
        self, text: str, images: Sequence[Image], encode: Callable[[str], list[int]]
    ) -> PromptTokens:
        """Return the tokens of a text."""
        check_markers(text, len(images))
        first, *rest = text.split(MARKER)
        ids = encode(first)
        for number, piece in enumerate(rest):
            start = -1 - number * NUM_VECTORS
            ids += [*range(start, start - NUM_VECTORS, -1), *encode(piece.removeprefix("\n"))]
        found = (PromptImage(_pixels(image), NUM_VECTORS, image) for image in images)
        return PromptTokens(tuple(ids), tuple(found))


def _pixels(image: Image) -> bytes:
    return blake2b(decode_image(image).tobytes(), digest_size=16).digest()


def make_seeing(llm: LLM) -> Counter[bytes]:
    """Give a toy `LLM` eyes; return the counts of how often each picture was encoded."""
    llm.model.backbone.vision = vision = RandomVision(llm.model.spec.width, llm.model.dtype)
    llm.reader = ToyReader()
    return vision.encoded


def seeing_llm(directory: Path, params: EngineParams | None = None) -> LLM:
    """Return an `LLM` that reads images, of the toy checkpoint of a directory, which is written if needed."""
    if not (directory / "config.json").exists():
        toy_checkpoint(directory, max_length=256)
    llm = LLM(directory, params=params)
    make_seeing(llm)
    return llm


def picture(colour: str = "red", size: tuple[int, int] = (8, 6), kind: str = "PNG") -> bytes:
    """Return the file of an image of one colour."""
    file = BytesIO()
    pillow.new("RGB", size, colour).save(file, kind)
    return file.getvalue()
