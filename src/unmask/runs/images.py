"""The images of a run's records: each distinct one once, as `images/<digest>.<extension>`.

Records name their images and hold their digests; what they looked like is shown from here, long after the data set has
been moved. A file appears whole or not at all, and several ranks may keep the same one.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from unmask.images import MEDIA_TYPES, MOST_BYTES, Image, digest_of, media_type
from unmask.runs.files import atomic_file

FOLDER = "images"
ENDINGS = tuple(kind.removeprefix("image/") for _, kind in MEDIA_TYPES)
DIGEST = re.compile(r"[0-9a-f]{32}")


def keep_images(directory: Path, images: Iterable[Image]) -> None:
    """Write those images into the directory of a run that are not there.

    Raises:
        ValueError: naming an image that is of no known format, or changed.
        OSError: it cannot be written.
    """
    for image in images:
        if _kept(directory, image.digest.hex()) is None:
            folder = directory / FOLDER
            folder.mkdir(exist_ok=True)
            ending = media_type(image).removeprefix("image/")
            with atomic_file(folder / f"{image.digest.hex()}.{ending}") as file:
                file.write(image.data)


def find_image(directory: Path, digest: str, name: str) -> Image | None:
    """Return a recorded image: kept in the directory, or at its own path; `None` where it is gone.

    Args:
        directory: of the run, or of the file of records.
        digest: as recorded.
        name: as recorded; a file of that name counts if its content has the digest.
    """
    if not DIGEST.fullmatch(digest):
        return None
    for path in (_kept(directory, digest), Path(name)):
        try:
            if path and path.is_file() and 0 < path.stat().st_size <= MOST_BYTES:
                data = path.read_bytes()
                if digest_of(data).hex() == digest:
                    return Image(name, data)
        except (OSError, ValueError):  # a name that no path can have
            continue
    return None


def _kept(directory: Path, digest: str) -> Path | None:
    # By name, not by a listing: a folder may hold as many images as a run has records.
    paths = (directory / FOLDER / f"{digest}.{ending}" for ending in ENDINGS)
    return next((path for path in paths if path.is_file()), None)
