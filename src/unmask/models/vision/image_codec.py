"""Decoding of images whose pixels reach a model as they are in the file.

Refused are files that decoding would change or that would take memory out of proportion: other formats than
`FORMATS`, CMYK and more than 8 bits per channel, animations, truncated files, contents that contradict
the extension of their name, and sizes beyond the limits below, which are read from the header. As in the
published pipelines, transparency is dropped and an EXIF orientation is not applied.
"""

import warnings
from io import BytesIO
from pathlib import PurePath
from typing import TYPE_CHECKING

from unmask.images import Image

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageFile import ImageFile

# Extensions of each format that is read.
FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
}
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
# A padded square of the largest side takes 300 MB.
MOST_PIXELS, MOST_SIDE, MOST_RATIO = 50_000_000, 10_000, 200
LIMITS = (
    f"at most {MOST_PIXELS // 10**6} million, {MOST_SIDE} on a side and a ratio of sides of "
    f"{MOST_RATIO} are read; resize it"
)


def decode_image(image: Image) -> "Picture":
    """Return an image in RGB, 8 bits per channel.

    Raises:
        ValueError: one sentence that names the image, if it is not what the module accepts.
    """
    try:
        from PIL import Image as pillow
    except ImportError as error:
        raise ValueError(
            f"{image.name}: images are read by Pillow: pip install 'unmask[vision]'"
        ) from error

    try:
        with (
            # Of large sizes, which are refused here (Pillow raises at twice its limit), and of transparency.
            warnings.catch_warnings(action="ignore"),
            pillow.open(BytesIO(image.data), formats=tuple(FORMATS)) as opened,
        ):
            problem = _problem(opened, image.name)
            if problem is None:
                return opened.convert("RGB")
    except pillow.UnidentifiedImageError:
        problem = f"is no image of one of the formats {', '.join(FORMATS)}"
    except pillow.DecompressionBombError:
        problem = f"has too many pixels: {LIMITS}"
    except Exception as error:  # a decoder may raise anything
        problem = f"cannot be decoded: {error}"
    raise ValueError(f"{image.name} {problem}")


def _problem(opened: "ImageFile", name: str) -> str | None:
    """Return the reason to refuse an opened image, which its header gives, or `None`."""
    # Cameras write JPEG with a second image, such as a preview, which is not read.
    kind = "JPEG" if opened.format == "MPO" else str(opened.format)
    suffix = PurePath(name).suffix.lower()
    if suffix in {each for group in FORMATS.values() for each in group} - set(FORMATS[kind]):
        return f"holds {kind}: rename it to {FORMATS[kind][0]}"
    width, height = opened.size
    long, short = max(opened.size), min(opened.size)
    if width * height > MOST_PIXELS or long > MOST_SIDE or long > short * MOST_RATIO:
        return f"has {width} x {height} pixels: {LIMITS}"
    if opened.format != "MPO" and getattr(opened, "is_animated", False):
        return "is animated: save one of its frames as an image"
    # Pillow reads 16 bits per channel as 8 without a warning; the raw mode states them.
    if ";16" in "".join(str(tile.args) for tile in opened.tile):
        return "has 16 bits per channel: convert it to RGB with 8"
    if opened.mode not in MODES:
        return f"has colours of mode {opened.mode}: convert it to RGB"
    return None
