"""Small copies of images as data URLs, for pages that show the prompts of trajectories.

A page holds one copy of each image that its trajectories name, whatever their number. Without Pillow, and where a
file is gone or damaged, the page shows the name.
"""

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

from unmask.images import Image
from unmask.runs.images import find_image
from unmask.viewer.markup import json_text

SIDE = 160
# Pixels of a decoded image; as of images that models read.
MOST_PIXELS = 50_000_000
MOST_BYTES = 4_000_000
# Images up to this size, such as digits of 8 x 8 pixels, are not blurred by JPEG.
SHARP_SIDE = 64


def thumbnails(directory: Path, islands: Iterable[str]) -> dict[str, str]:
    """Return data URLs by digest of the images that trajectories of a page name.

    Args:
        directory: of the run, or of the file of records.
        islands: JSON of the trajectories, as `traces.shown`.
    """
    urls: dict[str, str] = {}
    size = 0
    for digest, name in _named(islands).items():
        url = _of_file(directory, digest, name) if size < MOST_BYTES else None
        if url:
            urls[digest] = url
            size += len(url)
    return urls


def images_island(urls: Mapping[str, str]) -> dict[str, str]:
    """Return the data block of thumbnails by its identifier; none for a page without images."""
    return {"images-data": json_text(dict(urls))} if urls else {}


def _named(islands: Iterable[str]) -> dict[str, str]:
    """Return name by digest of each image of trajectories."""
    named: dict[str, str] = {}
    for island in islands:
        if '"digest"' not in island:  # most pages have no images
            continue
        trace = json.loads(island)
        for message in (*trace["messages"], {"images": [trace.get("drawing")]}):
            named.update((str(one["digest"]), str(one["name"])) for one in images_of(message))
    return named


def images_of(message: Any) -> list[Mapping[str, Any]]:
    """Return the images of a message of a record, each with `name` and `digest`."""
    found = message.get("images") if isinstance(message, Mapping) else None
    listed: list[Any] = found if isinstance(found, list) else []
    return [one for one in listed if isinstance(one, Mapping) and {"name", "digest"} <= {*one}]


# A running run redraws its report; equal digests are equal images.
@lru_cache(maxsize=512)
def _of_file(directory: Path, digest: str, name: str) -> str | None:
    image = find_image(directory, digest, name)
    return None if image is None else thumbnail(image)


def thumbnail(image: Image) -> str | None:
    """Return an image scaled down to `SIDE`, as a data URL; `None` where it cannot be decoded."""
    try:
        from PIL import Image as pillow

        with pillow.open(
            BytesIO(image.data), formats=("PNG", "JPEG", "WEBP", "GIF", "BMP")
        ) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                return None
            opened.draft("RGB", (2 * SIDE, 2 * SIDE))  # decodes less of a large JPEG
            small = opened.convert("RGB")
        small.thumbnail((SIDE, SIDE))
        kind = "PNG" if max(small.size) <= SHARP_SIDE else "JPEG"
        file = BytesIO()
        small.save(file, kind, quality=85)
        return f"data:image/{kind.lower()};base64,{b64encode(file.getvalue()).decode()}"
    except Exception:  # Pillow is missing, or its decoder raises anything
        return None
