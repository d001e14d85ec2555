"""JSON text that others wrote: one value, or the records of a list or of a JSON Lines file.

Which of the two a file of records is, its content decides: a JSON list begins with `[`. Nothing is
skipped but empty lines and byte order marks. A name that ends in `.gz` is a compressed file.

Every error is a ValueError that names the place. Text is bounded before it can exhaust the process:
a line or a list by `MAX_BYTES`, which also bounds what a small compressed file unpacks to, and
nesting by `MAX_DEPTH`, far below the depth at which Python's own recursion ends.
"""

import gzip
import json
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any

MAX_BYTES = 2**30
MAX_DEPTH = 100


def parse_json(text: bytes | str, place: str, parse_int: Callable[[str], int] | None = None) -> Any:
    """Return the value that a JSON text holds.

    Args:
        text: the text; as bytes, a byte order mark before it is skipped.
        place: names it in an error.
        parse_int: reads whole numbers; Python's own `int` reads 4,300 digits at most.

    Raises:
        ValueError: text that is no JSON, or is nested deeper than `MAX_DEPTH`.
    """
    try:
        value = json.loads(text, parse_int=parse_int)
    except RecursionError:
        raise too_deep(place) from None
    except ValueError as error:  # an integer of thousands of digits is no JSONDecodeError
        raise ValueError(f"{place}: not JSON: {error}") from None
    check_nesting(value, place)
    return value


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
    """Return the error of a text that is nested deeper than `MAX_DEPTH`."""
    return ValueError(f"{place}: nested deeper than {MAX_DEPTH}, which is the most that is read")


def parse_object(text: bytes | str, place: str) -> dict[str, Any]:
    """Return the object that a JSON text holds.

    Raises:
        ValueError: as `parse_json`, or the value is no object.
    """
    value = parse_json(text, place)
    if not isinstance(value, dict):
        raise ValueError(f"{place}: expected a JSON object, found {type(value).__name__}")
    return value


def read_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        ValueError: as `parse_object`; names the file.
    """
    return parse_object(path.read_bytes(), str(path))


def read_records(path: Path, key: str) -> Iterator[tuple[str, Any]]:
    """Yield `(place, record)`; the place names key, file and line or item.

    Args:
        path: the file.
        key: the config key that names it.

    Raises:
        ValueError: a file that cannot be read, or is not JSON.
    """
    place = f"{key} = {path}"
    if not path.is_file():
        raise ValueError(f"{place}: no such file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from _records(file, place)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{place}: cannot be read: {error}") from error


def _records(file: BufferedIOBase, place: str) -> Iterator[tuple[str, Any]]:
    """Yield the records of an open file, which is a list if its first text begins with `[`."""
    number, is_first = 0, True
    # Not splitlines: it also cuts at characters that JSON allows inside a text.
    while line := file.readline(MAX_BYTES + 1):
        number += 1
        _check_size(line, f"{place}, line {number}")
        # Files that were joined have a byte order mark at the start of a line.
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
        raise ValueError(f"{place}: longer than {MAX_BYTES} bytes, which is the most that is read")
