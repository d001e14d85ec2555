"""The images of people's records: found, checked, and held as files.

A record holds its images in parts of messages (`message_parts`), or in a column: a path, a data URL, bytes, an
image feature of `datasets` (`{"bytes": ..., "path": ...}`), or a list of these. Images of a column stand where
the parts without a source, or else the markers `<image>`, stand in its texts; without either they stand in front of
the first turn of the user. A number of images that differs from that of the places is refused.

**Paths are below one directory**: a relative path is taken from it, and one that leads out of it, by `..` or as an
absolute path, is refused: a file of records that was downloaded must not choose which files of a machine are read.
Links inside of the directory are followed. URLs are not fetched.

**Every image is decoded once when it is found**, so that a broken one stops a run before its first step, and then is
held by path and digest, not as pixels or bytes. One that is no file of its own is written to `$UNMASK_CACHE/images`,
named by its digest. A file that changes later is refused where it is read.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unmask.images import MARKER, Image, ImageFile, image_from
from unmask.message_parts import SOURCES, message_parts
from unmask.models.vision.image_codec import decode_image
from unmask.types import Message

# Columns with images, the first one that has some is read: TRL's, dLLM-RL's and LLaVA's, and dLLM-RL's others.
COLUMNS = ("images", "image", "image_path", "image_abs_path")
# Fields with turns, whose contents may be parts.
TURNS = ("messages", "conversations", "prompt", "completion", "chosen", "rejected")


def cache_root() -> Path:
    """Return the folder of everything that is kept between runs."""
    own = os.environ.get("UNMASK_CACHE")
    return Path(own) if own else Path.home() / ".cache" / "unmask"


class RecordImages:
    """The images of one set of records; each file is decoded once."""

    def __init__(
        self, root: Path | None, key: str = "data.image_root", is_kept: bool = True
    ) -> None:
        """Open nothing yet.

        Args:
            root: the directory that paths are below; without one, paths are refused.
            key: the config key that sets it, for messages.
            is_kept: write images that are no files to the cache folder, where the records outlive their
                reading; otherwise they stay in memory.
        """
        self._root, self._key, self._is_kept = root, key, is_kept
        self._found: dict[Path, Image] = {}

    def open(self, source: Any, place: str) -> Image:
        """Return the image of a source, decoded once to check it.

        Args:
            source: a path, a data URL, bytes, an image of Pillow, or the table of an image feature.
            place: within the record, for messages.

        Raises:
            ValueError: naming the image that cannot be read, is no image, or is outside of the directory.
        """
        name = place
        if isinstance(source, Mapping) and {*source} & {"bytes", "path"}:
            path = source.get("path")
            name = f"{place} ({path})" if isinstance(path, str) and path else place
            source = source["bytes"] if source.get("bytes") is not None else path
        if source is None or source == "":
            raise ValueError(f"{place} is empty: an image has bytes or a path")
        if isinstance(source, str | Path) and not _is_url(str(source)):
            return self._at(str(source))
        image = image_from(source, name)
        decode_image(image)
        return self._kept(image) if self._is_kept else image

    def of_column(self, record: Mapping[str, Any], columns: Sequence[str] = COLUMNS) -> list[Image]:
        """Return the images of the first of some columns that has any.

        Raises:
            ValueError: as `open`; or the record has codes of an image and no image.
        """
        name = next((name for name in columns if record.get(name) not in (None, [])), None)
        if name is None:
            if record.get("image_token_ids") is not None:
                raise ValueError(
                    "'image_token_ids' without 'image': codes are made of the image, as the model's config "
                    "prepares it; add the image"
                )
            return []
        value = record[name]
        if isinstance(value, list | tuple):
            return [self.open(one, f"{name}[{number}]") for number, one in enumerate(value)]
        return [self.open(value, name)]

    def _at(self, given: str) -> Image:
        """Return the image at a path."""
        if self._root is None:
            raise ValueError(
                f"{given}: is a path, and {self._key} is not given: set it to the directory that paths are below"
            )
        root = self._root.absolute()
        path = root / given  # an absolute path replaces the directory
        if ".." in Path(given).parts or not path.is_relative_to(root):
            raise ValueError(
                f"{given}: is outside of {self._root}, which paths of images are below: set {self._key} to a "
                "directory that holds it"
            )
        if path not in self._found:
            image = image_from(self._root / given)
            decode_image(image)
            self._found[path] = Image(image.name, ImageFile(path, image.digest))
        return self._found[path]

    def _kept(self, image: Image) -> Image:
        """Return an image held by a file of the cache folder, which is written if it is not there."""
        path, data = cache_root() / "images" / image.digest.hex(), image.data
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            if not path.is_file() or path.stat().st_size != len(data):
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(data)
                temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise ValueError(
                f"{image.name} cannot be kept in {path}: {error.strerror}; set $UNMASK_CACHE to a folder with "
                "room for the images"
            ) from error
        return Image(image.name, ImageFile(path, image.digest))


NO_FILES = RecordImages(None)


def with_open_parts(
    record: Mapping[str, Any], images: RecordImages
) -> tuple[Mapping[str, Any], list[Image]]:
    """Return a record whose contents in parts are tuples of texts and images, and the images that are left.

    Raises:
        ValueError: naming the part that cannot be read, or an image of the record that no part is left for.
    """
    waiting = images.of_column(record)
    total, opened = len(waiting), dict(record)

    def parts_of(turn: Any, place: str) -> Any:
        content = turn.get("content") if isinstance(turn, Mapping) else None
        if not isinstance(content, list):
            return turn
        count = sum(map(_has_no_source, content))
        own = [waiting.pop(0) for _ in range(min(count, len(waiting)))]
        return {**turn, "content": message_parts(content, place, images.open, own)}

    for key in TURNS:
        if isinstance(turns := record.get(key), list):
            opened[key] = [parts_of(turn, f"{key}[{n}]") for n, turn in enumerate(turns)]
    if 0 < len(waiting) < total:
        raise ValueError(f"no part of type 'image' is left for {waiting[0].name}")
    return opened, waiting


def placed(messages: Sequence[Message], waiting: Sequence[Image]) -> tuple[Message, ...]:
    """Return messages with images in the places of markers, or in front of the first turn of the user.

    Raises:
        ValueError: there are more markers than images, or fewer; or no turn of the user.
    """
    if not waiting:
        lost = (m for m in messages if not m.images and m.content.startswith(f"{MARKER}\n"))
        if any(message.role == "user" for message in lost):
            raise ValueError(f"a text begins with {MARKER}, and the record has no image for it")
        return tuple(messages)
    counts = [
        0 if message.images or message.role == "assistant" else message.content.count(MARKER)
        for message in messages
    ]
    if not any(counts):
        first = next((n for n, message in enumerate(messages) if message.role == "user"), None)
        if first is None:
            raise ValueError(
                f"{waiting[0].name}: there is no turn of the user that it could stand in"
            )
        front = Message.of("user", *waiting)
        turn = replace(
            messages[first],
            content=front.content + messages[first].content,
            images=(*front.images, *messages[first].images),
        )
        return (*messages[:first], turn, *messages[first + 1 :])
    if sum(counts) != len(waiting):
        raise ValueError(
            f"the texts have {sum(counts)} {MARKER}, and the record {len(waiting)} images: must have one for "
            "each, or none"
        )
    images = iter(waiting)
    return tuple(
        replace(message, images=tuple(next(images) for _ in range(count))) if count else message
        for message, count in zip(messages, counts, strict=True)
    )


def _is_url(source: str) -> bool:
    return source.startswith(("data:", "http://", "https://"))


def _has_no_source(part: Any) -> bool:
    if not isinstance(part, Mapping) or part.get("type") != "image":
        return False
    return all(part.get(key) is None for key in SOURCES)
