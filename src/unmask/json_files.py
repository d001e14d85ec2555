"""The one JSON reader: a value, an object, or the records of a list or of a JSON Lines file.

The content decides whether a file of records is a list, which begins with `[`, or JSON Lines. Only
empty lines and byte order marks are skipped. A name that ends in `.gz` is a compressed file.

Every error is a ValueError that names the place. Refused are:

- a key that occurs twice in an object, because readers differ in which of the two values they take;
- nesting beyond `MAX_DEPTH`, far below the depth at which Python's recursion ends;
- a line or list longer than `MAX_BYTES`, which also bounds what a small compressed file unpacks to.
"""

import gzip
import json
import zlib
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any

MAX_BYTES = 2**30
MAX_DEPTH = 100


def parse_json(text: bytes | str, place: str, parse_int: Callable[[str], int] | None = None) -> Any:
    """Return the value of a JSON text.

    Args:
        text: the text; bytes are UTF-8, and a byte order mark is skipped.
        place: names the text in an error.
        parse_int: converts integers; Python's `int` converts 4,300 digits at most.

    Raises:
        ValueError: the text is not JSON, repeats a key, or is nested deeper than `MAX_DEPTH`.
    """
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        value = json.loads(text, parse_int=parse_int, object_pairs_hook=_unique)
    except RecursionError:
        raise too_deep(place) from None
    except ValueError as error:  # an integer of thousands of digits raises no JSONDecodeError
        raise ValueError(f"{place}: not JSON: {error}") from None
    check_nesting(value, place)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        (key, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {key!r} occurs twice")
    return content


def check_nesting(value: Any, place: str) -> None:
    """Refuse tables and lists nested deeper than `MAX_DEPTH`.

    Raises:
        ValueError: naming the place.
    """
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        parents = [outer for outer in level if isinstance(outer, dict | list)]
        if not parents:
            return
        level = [
            inner
            for outer in parents
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    raise too_deep(place)


def too_deep(place: str) -> ValueError:
    """Return the error for a text that is nested deeper than `MAX_DEPTH`."""
    return ValueError(f"{place}: nested deeper than {MAX_DEPTH} levels, the limit")


def parse_object(text: bytes | str, place: str) -> dict[str, Any]:
    """Return the object of a JSON text.

    Raises:
        ValueError: as `parse_json`, or the value is not an object.
    """
    value = parse_json(text, place)
    if not isinstance(value, dict):
        raise ValueError(f"{place}: expected a JSON object, found {type(value).__name__}")
    return value


def read_object(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises:
        ValueError: as `parse_object`; names the file.
    """
    return parse_object(path.read_bytes(), str(path))


def read_objects(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the complete lines of a JSON Lines file of a run; none if the file does not exist.

    A last line without a line break is still being written, or its writer was killed: it is left out.

    Raises:
        ValueError: a complete line is not a JSON object; names file and line.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield parse_object(line, f"{path}, line {number}")


def read_records(path: Path, key: str) -> Iterator[tuple[str, Any]]:
    """Yield `(place, record)` of a user's file; the place names key, file and line or item.

    Args:
        path: the file.
        key: the config key that names it.

    Raises:
        ValueError: the file cannot be read, or is not JSON.
    """
    place = f"{key} = {path}"
    if not path.is_file():
        raise ValueError(f"{place}: no such file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from records_of(file, place)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{place}: cannot be read: {error}") from error


def records_of(file: BufferedIOBase, place: str) -> Iterator[tuple[str, Any]]:
    """Yield `(place, record)` of an open file: a list if its first line that is not empty begins with `[`.

    Args:
        file: one that can seek.
        place: names it in errors.

    Raises:
        ValueError: it is not JSON.
    """
    number, is_first = 0, True
    # Not splitlines, which also cuts at characters that JSON allows inside a string.
    while line := file.readline(MAX_BYTES + 1):
        number += 1
        _check_size(line, f"{place}, line {number}")
        # Concatenated files have byte order marks at the start of later lines.
        text = line.removeprefix(BOM_UTF8).strip()
        if text and is_first and text.startswith(b"["):
            file.seek(0)
            data = file.read(MAX_BYTES + 1)
            _check_size(data, place)
            items = parse_json(data, place)
            yield from ((f"{place}, item {n}", item) for n, item in enumerate(items, start=1))
            return
        if text:
            is_first = False
            yield f"{place}, line {number}", parse_json(text, f"{place}, line {number}")


def _check_size(data: bytes, place: str) -> None:
    if len(data) > MAX_BYTES:
        raise ValueError(f"{place}: longer than {MAX_BYTES} bytes, the limit")
