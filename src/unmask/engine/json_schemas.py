"""The JSON schemas that structured output can guarantee: every keyword is met by construction, or refused.

`outlines_core` turns a schema into a regular expression. It passes over keywords that it does not have (`minimum`,
`uniqueItems`, ...) and writes some wrongly (`allOf`, `oneOf`, formats whose texts may hold quotation marks), so
a schema is checked first: what is not listed here is refused, naming its place. A recursive schema is
unrolled to a depth of `DEPTH`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

DEPTH = 3
MOST_SCHEMAS = 10_000
DEFINITIONS = ("$defs", "definitions")
# What is left of an array or an object whose entries have no value.
EMPTY_ARRAY = {"type": "array", "items": {"type": "null"}, "maxItems": 0}
EMPTY_OBJECT = {"type": "object", "maxProperties": 0}
# They describe a value and limit nothing.
ANNOTATIONS = {
    *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
    *("$schema", "$id", "$comment", "$defs", "definitions"),
}
# By type, the keywords whose meaning the regular expression has.
KEYWORDS = {
    "string": {"minLength", "maxLength", "pattern", "format"},
    "array": {"items", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties"},
    "integer": set[str](),
    "number": set[str](),
    "boolean": set[str](),
    "null": set[str](),
}
DATE = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
FORMATS = {
    "date": DATE,
    "time": TIME,
    "date-time": f"{DATE}T{TIME}",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
}
# The digits and word characters of JSON schemas are those of ASCII.
ASCII = {"d": "[0-9]", "D": "[^0-9]", "w": "[0-9A-Za-z_]", "W": "[^0-9A-Za-z_]"}
IS_TYPE: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def checked_schema(text: str) -> tuple[str, list[str]]:
    """Return a JSON schema as the library takes it, and the patterns of its strings.

    Args:
        text: the schema, as JSON.

    Raises:
        ValueError: naming the place of what cannot be guaranteed.
    """
    patterns: list[str] = []
    try:
        schema = json.loads(text)
        prepared = _prepared(schema, "#", patterns)
        unrolled = _unrolled(prepared, prepared, (), count())
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except (AttributeError, TypeError) as error:
        raise ValueError(f"a keyword has a value of a wrong type: {error}") from error
    if unrolled is None:
        raise ValueError(f"#: no value of it ends within {DEPTH} levels of recursion")
    return json.dumps(unrolled), patterns


def _prepared(schema: Any, place: str, patterns: list[str]) -> dict[str, Any]:
    """Return a schema with its patterns and formats in the syntax of the library."""
    if not isinstance(schema, Mapping):
        raise ValueError(f"{place}: {schema!r} must be a schema, an object")
    found = dict(schema)  # pyright: ignore[reportUnknownArgumentType]
    for name in DEFINITIONS:
        if name in found:
            found[name] = _each(found[name], f"{place}/{name}", patterns)
    stated = found.keys() - ANNOTATIONS
    for name in ("$ref", "anyOf", "const", "enum"):
        if name in stated:
            _refuse(
                stated - {name} - ({"type"} if name in ("const", "enum") else set()), place, name
            )
    if "anyOf" in found:
        options = _list(found["anyOf"], f"{place}/anyOf")
        found["anyOf"] = [
            _prepared(one, f"{place}/anyOf/{i}", patterns) for i, one in enumerate(options)
        ]
    elif "const" in found or "enum" in found:
        values = _list(found["enum"], f"{place}/enum") if "enum" in found else [found["const"]]
        _check_values(values, found.pop("type", None), place)
    elif "type" in found:
        _prepare_typed(found, stated, place, patterns)
    elif stated - {"$ref"}:
        raise ValueError(f"{place}: {', '.join(sorted(stated))} without a type")
    return found


def _prepare_typed(
    found: dict[str, Any], stated: set[str], place: str, patterns: list[str]
) -> None:
    """Prepare a schema of one or several types, in place."""
    types = [found["type"]] if isinstance(found["type"], str) else _list(found["type"], place)
    for name in types:
        if name not in KEYWORDS:
            raise ValueError(f"{place}: type = {name!r} must be one of {', '.join(KEYWORDS)}")
    _refuse(stated - {"type"} - set[str]().union(*map(KEYWORDS.__getitem__, types)), place, "type")
    if len(types) > 1 and stated - {"type"}:
        raise ValueError(f"{place}: keywords of several types at once; write anyOf, one type each")
    if "pattern" in found or "format" in found:
        _refuse(stated - {"type", "pattern", "format"}, place, "pattern or format")
        pattern = _pattern_of(found, place)
        patterns.append(pattern)
        found.pop("format", None)
        found["pattern"] = pattern
    if "items" in found:
        found["items"] = _prepared(found["items"], f"{place}/items", patterns)
    if "object" in types and len(types) == 1:
        _prepare_object(found, place, patterns)


def _prepare_object(found: dict[str, Any], place: str, patterns: list[str]) -> None:
    """Prepare the schema of an object, in place."""
    names = found.get("properties") or {}
    unknown = [name for name in found.get("required", ()) if name not in names]
    if unknown:
        raise ValueError(f"{place}: required = {unknown} are not among its properties")
    if names:
        found["properties"] = _each(names, f"{place}/properties", patterns)
        # Properties are written in this order and no others, which every schema of them allows.
        found.pop("additionalProperties", None)
        for name in names:
            if json.dumps(name, ensure_ascii=False) != f'"{name}"':
                raise ValueError(f"{place}: property {name!r} needs escapes in JSON")
        return
    found.pop("properties", None)
    values = found.get("additionalProperties", True)
    if values is False:
        raise ValueError(f"{place}: an object without any property: write const")
    if values is not True:
        found["additionalProperties"] = _prepared(values, f"{place}/additionalProperties", patterns)


def _each(schemas: Any, place: str, patterns: list[str]) -> dict[str, Any]:
    if not isinstance(schemas, Mapping):
        raise ValueError(f"{place}: {schemas!r} must be an object of schemas")
    items = schemas.items()  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return {name: _prepared(one, f"{place}/{name}", patterns) for name, one in items}  # pyright: ignore[reportUnknownVariableType]


def _list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{place}: {value!r} must be a list with at least one entry")
    return value  # pyright: ignore[reportUnknownVariableType]


def _refuse(names: set[str], place: str, other: str) -> None:
    if names:
        raise ValueError(
            f"{place}: {', '.join(sorted(names))} next to {other} cannot be guaranteed; leave it out"
        )


def _check_values(values: list[Any], types: Any, place: str) -> None:
    """Refuse values of `enum` and `const` that are not scalars, or not of the stated types."""
    stated = [types] if isinstance(types, str) else types or list(IS_TYPE)
    for value in values:
        if not any(IS_TYPE[name](value) for name in stated if name in IS_TYPE):
            raise ValueError(
                f"{place}: the value {value!r} must be a string, a number, true, false or null"
                f"{f' of type {types}' if types else ''}"
            )


def _pattern_of(found: Mapping[str, Any], place: str) -> str:
    """Return the regular expression of a string with `pattern` or `format`."""
    if "format" in found:
        if "pattern" in found or found["format"] not in FORMATS:
            raise ValueError(
                f"{place}: format = {found['format']!r} must be one of {', '.join(FORMATS)}, without "
                "pattern"
            )
        return f"(?:{FORMATS[found['format']]})"
    pattern = re.sub(
        r"\\(.)",
        lambda match: ASCII.get(match[1], match[0]),
        str(found["pattern"]),
        flags=re.DOTALL,
    )
    return f"(?:{unanchored(pattern)})"


def unanchored(pattern: str) -> str:
    """Return a regular expression without `^` at its start and `$` at its end: the whole text matches."""
    pattern = pattern.removeprefix("^")
    body = pattern.removesuffix("$")
    num_backslashes = len(body) - len(body.rstrip("\\"))
    return pattern if num_backslashes % 2 else body


def _unrolled(
    schema: dict[str, Any], root: Mapping[str, Any], inside: tuple[str, ...], numbers: Iterator[int]
) -> dict[str, Any] | None:
    """Return a prepared schema without references; `None` if it has no value within `DEPTH`.

    The library's own unrolling writes a broken object where a property it needs has no value left.

    Args:
        schema: prepared.
        root: where references lead.
        inside: the references that led here.
        numbers: of the schemas, from 0.

    Raises:
        ValueError: a reference leads nowhere, or there are too many schemas.
    """
    if next(numbers) >= MOST_SCHEMAS:
        raise ValueError(f"#: its references unroll to more than {MOST_SCHEMAS:,} schemas")
    found = {name: value for name, value in schema.items() if name not in DEFINITIONS}
    if (reference := found.get("$ref")) is not None:
        if inside.count(reference) == DEPTH:
            return None
        return _unrolled(_resolve(reference, root), root, (*inside, reference), numbers)

    return _of_values(found, lambda one: _unrolled(one, root, inside, numbers))


def _of_values(
    found: dict[str, Any], unrolled: Callable[[dict[str, Any]], dict[str, Any] | None]
) -> dict[str, Any] | None:
    """Return a schema with `unrolled` applied to the schemas in it; `None` if it has no value then."""
    if "anyOf" in found:
        found["anyOf"] = [one for one in map(unrolled, found["anyOf"]) if one is not None]
        return found if found["anyOf"] else None
    if "items" in found:
        items = unrolled(found["items"])
        if items is None and found.get("minItems", 0):
            return None
        return {**found, "items": items} if items is not None else EMPTY_ARRAY
    if "properties" in found:
        properties = {name: unrolled(one) for name, one in found["properties"].items()}
        found["properties"] = {name: one for name, one in properties.items() if one is not None}
        if not found["properties"].keys() >= set(found.get("required", ())):
            return None
        return found if found["properties"] else EMPTY_OBJECT
    if isinstance(values := found.get("additionalProperties"), dict):
        values = unrolled(values)  # pyright: ignore[reportUnknownArgumentType]
        return {**found, "additionalProperties": values} if values is not None else EMPTY_OBJECT
    return found


def _resolve(reference: str, root: Mapping[str, Any]) -> dict[str, Any]:
    """Return the prepared schema that a reference leads to: the whole, or a definition of it."""
    match reference.split("/"):
        case ["#"]:
            return dict(root)
        case ["#", "$defs" | "definitions" as name, key] if key in root.get(name, ()):
            return root[name][key]
        case _:
            raise ValueError(
                f"$ref = {reference!r} must lead to a schema in this document: #, or an entry of its $defs"
            )
