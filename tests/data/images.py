"""Pictures for records, and a reader of them whose ids can be checked by hand."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image as pillow

from unmask.checkpoints.image_reader import PromptTokens
from unmask.images import MARKER, Image, check_markers
from unmask.types import Message, PromptImage, image_starts


def png(colour: int, size: tuple[int, int] = (4, 3), kind: str = "PNG") -> bytes:
    """Return the file of a picture of one colour."""
    file = BytesIO()
    pillow.new("RGB", size, (colour, 0, 0)).save(file, kind)
    return file.getvalue()


def write_png(path: Path, colour: int) -> Path:
    """Write a picture of one colour and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(colour))
    return path


class ToyReader:
    """A model whose images have as many vectors as `count`; it has a system turn of its own."""

    def __init__(self, count: int = 2) -> None:
        """Set the number of vectors of an image."""
        self.count = count
        self.settings = f"toy {count}"

    def conversation(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return the messages after a system turn."""
        return (Message("system", "see"), *messages)

    def tokens(
        self, text: str, images: Sequence[Image], encode: Callable[[str], list[int]]
    ) -> PromptTokens:
        """Return the ids of the text, those of an image's vectors in the place of its marker."""
        check_markers(text, len(images))
        found = tuple(PromptImage(image.digest, self.count, image) for image in images)
        first, *others = text.split(MARKER)
        ids = encode(first)
        for start, piece in zip(image_starts(found), others, strict=True):
            ids += [*range(-1 - start, -1 - start - self.count, -1), *encode(piece)]
        return PromptTokens(tuple(ids), found)


class CodeReader:
    """A model whose images are two token ids each, in front of the text."""

    settings = "codes"

    def conversation(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return the messages."""
        return messages

    def tokens(
        self, text: str, images: Sequence[Image], encode: Callable[[str], list[int]]
    ) -> PromptTokens:
        """Return the codes of all images, and the ids of the text without markers."""
        check_markers(text, len(images))
        codes = [code for image in images for code in (300, image.digest[0] + 301)]
        return PromptTokens((*codes, *encode(text.replace(f"{MARKER}\n", ""))))
