"""Records of a JSON list or a JSON Lines file, each with the words that name it in an error.

Which of the two a file is, its content decides: a JSON list begins with `[`. Nothing is skipped but
empty lines. A name that ends in `.gz` is a compressed file.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_records(path: Path, key: str) -> Iterator[tuple[str, Any]]:
    """Yield `(place, record)`; the place names key, file and line or item.

    Args:
        path: the file.
        key: the config key that names it.

    Raises:
        ValueError: a file that cannot be read, or is not JSON.
    """
    if not path.is_file():
        raise ValueError(f"{key} = {path}: no such file")
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{key} = {path}: cannot be read: {error}") from error
    if text.lstrip().startswith("["):
        for number, record in enumerate(_parse(text, f"{key} = {path}"), start=1):
            yield f"{key} = {path}, item {number}", record
        return
    # Not splitlines: it also cuts at characters that JSON allows inside a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{key} = {path}, line {number}"
            yield place, _parse(line, place)


def _parse(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: not JSON: {error}") from error
