"""A cache of tokenised demonstrations, so that a second start does not render and tokenise a large file again.

An entry is named by a digest of all that its tokens follow from: the content of the data file, how it is read,
the files of the tokenizer with the chat template, the ids that end a response and those the model may write, and
the versions of the libraries. So no entry is ever out of date; one that cannot be read is made again. Entries are
`.npz` files without pickled objects, below `$UNMASK_CACHE`, or else `~/.cache/unmask`, and may be deleted.
"""

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from hashlib import blake2b, file_digest
from importlib.metadata import version
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from unmask import __version__
from unmask.configs.sft_data import RecordsConfig
from unmask.data.demonstrations import Demonstration, Vocabulary, demonstrations_of_source

# Smaller files are tokenised in less than a second.
MIN_BYTES = 2**20
# Files of a tokenizer begin so.
TOKENIZER_FILES = (
    *("tokenizer", "vocab", "merges", "special_tokens", "added_tokens", "chat_template"),
)
COLUMNS = ("prompt", "response", "step_map")


def cached_demonstrations(
    config: RecordsConfig, key: str, vocabulary: Vocabulary
) -> Iterator[Demonstration]:
    """Yield the demonstrations of a file or of a data set on the hub; those of a large file are kept.

    Args:
        config: names it, and how it is read.
        key: of the section, such as `data`.
        vocabulary: of the model.

    Raises:
        ValueError: as `demonstrations_of_source`.
    """
    path = config.path
    if path is None or not path.is_file() or path.stat().st_size < MIN_BYTES:
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
    own = os.environ.get("UNMASK_CACHE")
    return (Path(own) if own else Path.home() / ".cache" / "unmask") / "tokens"


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
    rest = [reading, vocabulary.end_ids, libraries, drawable and list(map(bool, drawable))]
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


def _load(entry: Path, place: str) -> Iterator[Demonstration]:
    """Return the demonstrations of an entry; all of it is read before the first one is made."""
    with np.load(entry, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    kind = str(arrays["kind"][0])
    columns = [_rows(arrays[name], arrays[f"{name}_lengths"]) for name in COLUMNS]
    rows = zip(arrays["number"].tolist(), *columns, strict=True)
    return (
        Demonstration(prompt or (), response or (), steps, f"{place}, {kind} {number}")
        for number, prompt, response, steps in rows
    )


def _rows(flat: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[int, ...] | None]:
    """Yield the rows of a flat array; None where the length is -1."""
    ends = accumulate(np.maximum(lengths, 0).tolist(), initial=0)
    for length, (start, end) in zip(lengths.tolist(), pairwise(ends), strict=True):
        yield None if length < 0 else tuple(flat[start:end].tolist())
