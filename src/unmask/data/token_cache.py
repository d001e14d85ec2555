"""A cache of tokenised demonstrations, so that a second start does not render and tokenise a large file again.

An entry is named by a digest of all that its tokens follow from: the content of the data file, how it is read,
the files of the tokenizer with the chat template, the ids that end a response and those the model may write, how
the model reads images, and the versions of the libraries. It lists the files of its images with their digests, and
is made again if one of them is not there or has another content. So no entry is ever out of date; one that cannot be
read is made again. Entries are `.npz` files without pickled objects, below `$UNMASK_CACHE`, or else
`~/.cache/unmask`, and may be deleted.
"""

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b, file_digest
from importlib.metadata import version
from itertools import accumulate, pairwise, repeat
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from unmask import __version__
from unmask.configs.sft_data import RecordsConfig
from unmask.data.demonstrations import (
    Demonstration,
    Vocabulary,
    demonstrations_of_source,
    image_root,
)
from unmask.data.record_images import cache_root
from unmask.images import Image, ImageFile, digest_of, read_image_file
from unmask.types import PromptImage

# Smaller files are tokenised in less than a second, unless they have images.
MIN_BYTES = 2**20
# Files of a tokenizer begin so.
TOKENIZER_FILES = (
    *("tokenizer", "vocab", "merges", "special_tokens", "added_tokens", "chat_template"),
)
# `images` and `sources` of a demonstration.
ImagesOf = tuple[tuple[PromptImage, ...], tuple[Image, ...]]
COLUMNS = ("prompt", "response", "step_map")


def cached_demonstrations(
    config: RecordsConfig, key: str, vocabulary: Vocabulary
) -> Iterator[Demonstration]:
    """Yield the demonstrations of a file or of a data set on the hub.

    Those of a large file are kept, and those of any file for a model that reads images.

    Args:
        config: names it, and how it is read.
        key: of the section, such as `data`.
        vocabulary: of the model.

    Raises:
        ValueError: as `demonstrations_of_source`.
    """
    path = config.path
    is_slow = vocabulary.reader.settings != ""
    if path is None or not path.is_file() or not (is_slow or path.stat().st_size >= MIN_BYTES):
        yield from demonstrations_of_source(config, key, vocabulary)
        return
    entry = cache_folder() / f"{_name(path, config, vocabulary)}.npz"
    try:
        found = _load(entry, f"{key}.path = {path}")
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        found = list(demonstrations_of_source(config, key, vocabulary))
        try:
            _save(entry, found)
        except OSError as error:
            warnings.warn(f"{entry}: the tokens cannot be kept: {error}", stacklevel=2)
    yield from found


def cache_folder() -> Path:
    """Return the folder of all entries."""
    return cache_root() / "tokens"


def _name(path: Path, config: RecordsConfig, vocabulary: Vocabulary) -> str:
    """Return the digest of all that the tokens of a file follow from."""
    folder = Path(vocabulary.tokenizer.name_or_path)
    own = sorted(file for file in folder.iterdir() if file.name.startswith(TOKENIZER_FILES))
    reading = config.model_dump(include={"layout", "fields", "rendered", "turns"})
    state = blake2b(digest_size=20)
    for file in (path, *own):
        with file.open("rb") as content:
            state.update(file.suffix.encode() + file_digest(content, "blake2b").digest())
    libraries = [__version__, version("transformers"), version("tokenizers")]
    drawable = vocabulary.drawable
    settings = vocabulary.reader.settings
    images = [settings, str((image_root(config) or Path()).absolute())] if settings else []
    rest = [reading, vocabulary.end_ids, libraries, drawable and list(map(bool, drawable)), images]
    state.update(json.dumps(rest, sort_keys=True).encode())
    return state.hexdigest()


def _save(entry: Path, found: Sequence[Demonstration]) -> None:
    """Write an entry under a temporary name, and rename it."""
    words = [demonstration.place.rpartition(", ")[2].split(" ") for demonstration in found]
    arrays: dict[str, Any] = {"kind": np.array([kind for kind, _ in words[:1]])}
    arrays["number"] = np.array([int(number) for _, number in words], dtype=np.int64)
    for name, rows in zip(COLUMNS, _columns(found), strict=True):
        # -1 stands for a demonstration without a step map.
        arrays[f"{name}_lengths"] = np.array([-1 if r is None else len(r) for r in rows])
        arrays[name] = np.fromiter((i for r in rows for i in r or ()), dtype=np.int32)
    if any(demonstration.sources for demonstration in found):
        arrays["images"] = np.frombuffer(_images_as_json(found), dtype=np.uint8)
    entry.parent.mkdir(parents=True, exist_ok=True)
    temporary = entry.with_name(f"{entry.stem}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        temporary.replace(entry)
    finally:
        temporary.unlink(missing_ok=True)


def _columns(found: Sequence[Demonstration]) -> list[list[tuple[int, ...] | None]]:
    return [
        [d.prompt_ids for d in found],
        [d.response_ids for d in found],
        [d.step_map for d in found],
    ]


def _images_as_json(found: Sequence[Demonstration]) -> bytes:
    """Return the files of all images, and of each demonstration the numbers of its own and its `images`."""
    files: dict[ImageFile, tuple[int, str]] = {}

    def number(image: Image | None) -> int | None:
        if image is None:
            return None
        if not isinstance(image.content, ImageFile):
            raise OSError(f"{image.name} is not kept in a file")
        return files.setdefault(image.content, (len(files), image.name))[0]

    rows = [
        [
            [number(source) for source in one.sources],
            [[image.digest.hex(), image.count, number(image.source)] for image in one.images],
        ]
        for one in found
    ]
    table = [[name, str(file.path), file.digest.hex()] for file, (_, name) in files.items()]
    return json.dumps([table, rows]).encode()


def _images_from_json(text: bytes) -> Iterator[ImagesOf]:
    """Yield `images` and `sources` of each demonstration, after all files were read.

    Raises:
        ValueError: a file is not there or has another content.
    """
    table, rows = json.loads(text)
    files: list[Image] = []
    for name, path, digest in table:
        file = ImageFile(Path(path), bytes.fromhex(digest))
        if digest_of(read_image_file(file.path)) != file.digest:
            raise ValueError(f"{path} changed")
        files.append(Image(name, file))
    for sources, images in rows:
        yield (
            tuple(
                PromptImage(bytes.fromhex(digest), count, None if place is None else files[place])
                for digest, count, place in images
            ),
            tuple(files[place] for place in sources),
        )


def _load(entry: Path, place: str) -> Iterator[Demonstration]:
    """Return the demonstrations of an entry; all of it is read before the first one is made."""
    with np.load(entry, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    kind = str(arrays["kind"][0])
    columns = [_rows(arrays[name], arrays[f"{name}_lengths"]) for name in COLUMNS]
    held: Iterable[ImagesOf] = repeat(((), ()), len(arrays["number"]))
    if "images" in arrays:
        held = list(_images_from_json(arrays["images"].tobytes()))
    rows = zip(arrays["number"].tolist(), *columns, held, strict=True)
    return (
        Demonstration(
            prompt or (), response or (), steps, images, sources, f"{place}, {kind} {number}"
        )
        for number, prompt, response, steps, (images, sources) in rows
    )


def _rows(flat: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[int, ...] | None]:
    """Yield the rows of a flat array; None where the length is -1."""
    ends = accumulate(np.maximum(lengths, 0).tolist(), initial=0)
    for length, (start, end) in zip(lengths.tolist(), pairwise(ends), strict=True):
        yield None if length < 0 else tuple(flat[start:end].tolist())
