"""An image as its file holds it: encoded bytes under a digest, which are decoded where a model reads them.

An image is a path, bytes or a data URL; other URLs are not fetched. In the text of a message each image
stands where the marker `<image>` stands. Decoding is in `models/vision/image_codec.py`.
"""

import binascii
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

# How an image becomes the square that a model reads (`models/vision/image_preprocess.py`).
ImagePreprocess = Literal["pad", "crop", "squash"]

MARKER = "<image>"
MOST_BYTES = 2**26
# Media types by the first bytes of a file; a WebP file has its mark behind the length of the file.
MEDIA_TYPES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"BM"), "image/bmp"),
)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that holds an image, read where the image is used: a data set need not fit into memory.

    Attributes:
        path: of the file.
        digest: of the content that it had; another one is refused.
    """

    path: Path
    digest: bytes

    def read(self) -> bytes:
        """Return the content.

        Raises:
            ValueError: if it cannot be read, or changed.
        """
        data = read_image_file(self.path)
        if digest_of(data) != self.digest:
            raise ValueError(f"{self.path} changed since the data was read: start the run again")
        return data


@dataclass(frozen=True, eq=False)  # without slots, for the cached property
class Image:
    """An encoded image; images of equal content are equal, whatever their names.

    Attributes:
        name: its file, or its place, for messages.
        content: of its file, or the file itself.

    Raises:
        ValueError: if it is empty or larger than `MOST_BYTES`.
    """

    name: str
    content: bytes | ImageFile = field(repr=False)

    def __post_init__(self) -> None:
        """Check the size."""
        if isinstance(self.content, ImageFile):
            return  # checked when it was read
        if not self.content:
            raise ValueError(f"{self.name} is empty: no image")
        if len(self.content) > MOST_BYTES:
            raise ValueError(
                f"{self.name} has more than the {MOST_BYTES >> 20} MiB that an image may have"
            )

    def __eq__(self, other: object) -> bool:
        """Return whether the other is an image of the same content."""
        return isinstance(other, Image) and self.digest == other.digest

    def __hash__(self) -> int:
        """Return the hash of the digest."""
        return hash(self.digest)

    @property
    def data(self) -> bytes:
        """The content; errors as `ImageFile.read`."""
        return self.content.read() if isinstance(self.content, ImageFile) else self.content

    @cached_property
    def digest(self) -> bytes:
        """Digest of the content, which caches of encoded images are keyed by."""
        content = self.content
        return content.digest if isinstance(content, ImageFile) else digest_of(content)


def digest_of(data: bytes) -> bytes:
    """Return the digest of an encoded image."""
    return blake2b(data, digest_size=16).digest()


def read_image_file(path: Path) -> bytes:
    """Return the content of a file, of which no more than one byte beyond `MOST_BYTES` is read.

    Raises:
        ValueError: naming the file that is not there or no file.
    """
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read as an image: {error.strerror}") from error


def image_from(source: Any, name: str = "image") -> Image:
    """Return the image at a path, in a data URL, in bytes, or of Pillow.

    Args:
        source: a path, bytes, an `Image`, or an image of Pillow, which is written as PNG. A string is a path
            unless it begins with `data:`.
        name: of an image without a path, for messages.

    Raises:
        ValueError: naming the file that is not there or no file, or the URL that is not read; and as
            `Image`.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, bytes):
        return Image(name, source)
    if not isinstance(source, str | Path):
        return Image(name, _png_of(source, name))
    if isinstance(source, str) and source.startswith("data:"):
        return Image(name, _data_of_url(source, name))
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        raise ValueError(f"{source}: URLs are not fetched; download the image, or send a data URL")
    return Image(str(source), read_image_file(Path(source)))


def media_type(image: Image) -> str:
    """Return the media type of the content of an image.

    Raises:
        ValueError: naming the image that is of no known format.
    """
    kind = next((kind for mark, kind in MEDIA_TYPES if mark.match(image.data)), None)
    if kind is None:
        raise ValueError(f"{image.name} is no image of the formats PNG, JPEG, WebP, GIF or BMP")
    return kind


def data_url(image: Image) -> str:
    """Return the file of an image as a data URL; raises as `media_type`."""
    return f"data:{media_type(image)};base64,{b64encode(image.data).decode()}"


def _png_of(picture: Any, name: str) -> bytes:
    if not hasattr(picture, "tobytes") or not hasattr(picture, "save"):
        raise ValueError(
            f"{name}: a {type(picture).__name__} is no image: must be a path, bytes, a data URL or an image of "
            "Pillow"
        )
    file = BytesIO()
    try:
        picture.save(file, "PNG")
    except OSError as error:
        raise ValueError(f"{name} cannot be stored as PNG: {error}") from error
    return file.getvalue()


def _data_of_url(url: str, name: str) -> bytes:
    kind, comma, text = url.partition(",")
    if not comma or not kind.endswith(";base64"):
        raise ValueError(f"{name}: the data URL must be data:image/...;base64,...")
    if len(text) > MOST_BYTES * 4 // 3 + 4:
        raise ValueError(f"{name} has more than the {MOST_BYTES >> 20} MiB that an image may have")
    try:
        return b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{name}: the data URL holds no base64: {error}") from None


def check_markers(text: str, num_images: int) -> None:
    """Refuse a text that has another number of markers than images.

    Raises:
        ValueError: naming both numbers.
    """
    count = text.count(MARKER)
    if count != num_images:
        raise ValueError(
            f"the text has {count} {MARKER} for {num_images} images: must have one for each"
        )
