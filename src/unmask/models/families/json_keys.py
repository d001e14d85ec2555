"""Typed keys of a checkpoint's JSON files: `config.json` and similar ones.

Each reader states the keys that it uses, with their types, as a `Keys` class; a value of another type
or size is one line that names file, key and value. Keys that are not stated are ignored.
"""

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from unmask.json_files import read_object

# Larger than any dimension of a published model, and no product of three overflows an int64.
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
    """Return a JSON object of a checkpoint.

    Args:
        path: the file.
        kind: the expected content: a `Keys` class, or the type of a mapping.

    Raises:
        ValueError: naming the file, if it does not exist or is not a JSON object; and the key, if its
            value is of another type or out of range, or it occurs twice.
    """
    if not path.is_file():
        raise ValueError(f"{path.parent} is not a checkpoint: it has no {path.name}")
    content = read_object(path)
    try:
        _adapter(kind).validate_python(content, strict=True)
    except ValidationError as error:
        raise ValueError(f"{path}: {first_mistake(error, content)}") from None
    return content


def read_optional(path: Path, kind: Any = dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object as `read_json` does, or an empty one if there is no such file."""
    return read_json(path, kind) if path.is_file() else {}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object in the layout of the hub's files."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def first_mistake(error: ValidationError, content: Any) -> str:
    """Return one line that names the first wrong key, its value and the expected type."""
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
    """Return the keys of a pydantic location, without the branches of unions that it names, and the value."""
    keys: list[int | str] = []
    here: Any = content
    for part in loc:
        place: Any = part  # a union's branch is a string that is not a key here
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


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
