"""Random JSON schemas of every supported keyword, and a validator that shares no code with the package."""

import json
import random
import re
from typing import Any

NAMES = ("a", "id", "name", "kind", "x y", "größe", "values", "next", "true", "0")
PATTERNS = (
    "[a-z]{1,4}",
    "^[A-Z][0-9]*$",
    "(ab|cd)+",
    r"\d{2}-\w",
    "x?y*",
    '[^"\\\\\\x00-\\x1f]{3}',
)
FORMATS = {
    "date": r"\d{4}-\d\d-\d\d",
    "time": r"\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    "date-time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    "uuid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
}
SCALARS = ("a", "b c", 'say "hi"', "back\\slash", "ünï", "", 0, -7, 1.5, True, False, None)
KINDS = ("string", "integer", "number", "boolean", "null", "enum", "const", "format", "pattern")


def random_schema(rng: random.Random, depth: int = 3) -> dict[str, Any]:
    """Return a random schema; some are recursive."""
    schema = _random(rng, depth, [])
    if rng.random() < 0.2:
        leaf = _random(rng, 1, [])
        tree = {
            "type": "object",
            "properties": {"v": leaf, "kids": {"type": "array", "items": {"$ref": "#/$defs/T"}}},
            "required": ["v", "kids"] if rng.random() < 0.5 else ["v"],
        }
        schema = {"$defs": {"T": tree}, "anyOf": [{"$ref": "#/$defs/T"}, schema]}
    return schema


def _random(rng: random.Random, depth: int, types: list[str]) -> dict[str, Any]:
    kind = rng.choice(KINDS if depth == 0 else (*KINDS, *("object", "array", "anyOf") * 4))
    if kind == "string":
        low = rng.randrange(3)
        limits = {"minLength": low, "maxLength": low + rng.randrange(5)}
        return {"type": "string"} | {name: n for name, n in limits.items() if rng.random() < 0.4}
    if kind == "enum":
        return {"enum": rng.sample(SCALARS, rng.randrange(1, 4))}
    if kind == "const":
        return {"const": rng.choice(SCALARS)}
    if kind == "format":
        return {"type": "string", "format": rng.choice(list(FORMATS))}
    if kind == "pattern":
        return {"type": "string", "pattern": rng.choice(PATTERNS)}
    if kind == "anyOf":
        return {"anyOf": [_random(rng, depth - 1, types) for _ in range(rng.randrange(1, 4))]}
    if kind == "array":
        low = rng.randrange(3)
        limits = {"minItems": low, "maxItems": low + rng.randrange(3)}
        kept = {name: n for name, n in limits.items() if rng.random() < 0.5}
        return {"type": "array", "items": _random(rng, depth - 1, types)} | kept
    if kind == "object":
        if rng.random() < 0.15:
            return {"type": "object", "additionalProperties": _random(rng, depth - 1, types)}
        names = rng.sample(NAMES, rng.randrange(1, 4))
        properties = {name: _random(rng, depth - 1, types) for name in names}
        required = [name for name in names if rng.random() < 0.7]
        closed = {"additionalProperties": False} if rng.random() < 0.5 else {}
        return {"type": "object", "properties": properties, "required": required} | closed
    return {"type": kind}


def is_valid(text: str, schema: dict[str, Any]) -> bool:
    """Return whether a text is JSON and valid under a schema of `random_schema`."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return False
    return _is_valid(value, schema, schema)


def _is_valid(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if "$ref" in schema:
        target: Any = root
        for name in schema["$ref"].split("/")[1:]:
            target = target[name]
        return _is_valid(value, target, root)
    if "anyOf" in schema:
        return any(_is_valid(value, one, root) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        wanted = schema.get("enum", [schema.get("const")])
        is_flag = isinstance(value, bool)
        return any(value == one and is_flag == isinstance(one, bool) for one in wanted)
    checks = {"string": _is_string, "array": _is_array, "object": _is_object}
    if schema["type"] in checks:
        return checks[schema["type"]](value, schema, root)
    if schema["type"] == "null":
        return value is None
    if schema["type"] == "boolean":
        return isinstance(value, bool)
    kinds = (int,) if schema["type"] == "integer" else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool)


def _is_string(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if not isinstance(value, str):
        return False
    if "format" in schema:
        return re.fullmatch(FORMATS[schema["format"]], value, re.ASCII) is not None
    if "pattern" in schema and re.search(schema["pattern"], value, re.ASCII) is None:
        return False
    return schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9)


def _is_array(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if not isinstance(value, list):
        return False
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9):
        return False
    return all(_is_valid(one, schema["items"], root) for one in value)


def _is_object(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if not isinstance(value, dict):
        return False
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, one in value.items():
        if name in properties:
            if not _is_valid(one, properties[name], root):
                return False
        elif others is False or (others is not True and not _is_valid(one, others, root)):
            return False
    return all(name in value for name in schema.get("required", ()))
