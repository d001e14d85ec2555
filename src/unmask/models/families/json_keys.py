"""A checkpoint's JSON objects: `config.json` and its like, read and written.

The files come from elsewhere, so each reader states the keys that it uses as a `Keys`; a value of
another type or size is an error of one line with file, key and value. Other keys may hold anything. A
byte order mark is skipped; a repeated key is refused, because readers differ in which one they take.
"""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

# Far above the dimensions of published models, and no product of three overflows an int64.
MOST_SIZE = 2**20
Size = Annotated[int, Field(ge=1, le=MOST_SIZE)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = TokenId | list[TokenId] | None


class Keys(BaseModel):
    """The keys of a file that are used, with their types; each may be absent."""

    model_config = ConfigDict(
        strict=True, extra="ignore", allow_inf_nan=False, protected_namespaces=()
    )


def read_json(path: Path, kind: Any = dict[str, Any]) -> dict[str, Any]:
    """Read a JSON object of a checkpoint.

    Args:
        path: the file.
        kind: its type: a `Keys`, or the type of a mapping.

    Raises:
        ValueError: naming the file, if it does not exist or is not a JSON object; and the key, if its
            value is of another type or out of range, or the key is repeated.
    """
    if not path.is_file():
        raise ValueError(f"{path.parent} is not a checkpoint: it has no {path.name}")
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object")
    try:
        _adapter(kind).validate_python(content, strict=True)
    except ValidationError as error:
        raise ValueError(f"{path}: {first_mistake(error, content)}") from None
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object in the format of the hub's own files."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def first_mistake(error: ValidationError, content: Any) -> str:
    """Return one line with the first wrong key, its value and its requirement."""
    found = [(_find(details["loc"], content), details) for details in error.errors()]
    keys, value = max((place for place, _ in found), key=lambda place: len(place[0]))
    wanted = [
        f"an object with {details['loc'][-1]!r}" if details["type"] == "missing" else details["msg"]
        for (same, _), details in found
        if same == keys
    ]
    must = " or ".join(text.removeprefix("Input should be ") for text in dict.fromkeys(wanted))
    place = f"{'.'.join(map(str, keys))} = {shortened(value)}: " if keys else ""
    return f"{place}must be {must}"


def _find(loc: tuple[int | str, ...], content: Any) -> tuple[list[int | str], Any]:
    """Return the keys of a pydantic location, which also names branches of unions, and the value there."""
    keys: list[int | str] = []
    here: Any = content
    for part in loc:
        place: Any = part  # the name of a union's branch is not a key here
        if place in (range(len(here)) if isinstance(here, list) else here):
            here = here[place]
            keys.append(part)
        if not isinstance(here, dict | list):
            break
    return keys, here


def shortened(value: Any) -> str:
    """Return the repr of a value, cut to a length that fits a line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} comes twice")
    return content


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
