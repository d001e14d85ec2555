"""The JSON schema accepts every shipped file, and refuses what the configuration refuses."""

import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.source import ROOT
from unmask.configs.eval import EvalConfig
from unmask.configs.keys import keys, schema_text
from unmask.configs.rl import RLConfig
from unmask.configs.section import Section
from unmask.configs.sft import SFTConfig

CLASSES: dict[str, type[Section]] = {"sft": SFTConfig, "rl": RLConfig, "eval": EvalConfig}
SCHEMAS: dict[str, dict[str, Any]] = {k: json.loads(schema_text(c)) for k, c in CLASSES.items()}
SHIPPED = sorted(
    p for kind in ("sft", "rl", "eval") for p in (ROOT / "configs" / kind).glob("*.toml")
)
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}
# What a value of the right type must satisfy, by keyword of the schema.
LIMITS: dict[str, Callable[[Any, Any], bool]] = {
    "const": lambda value, limit: value == limit,
    "enum": lambda value, limit: value in limit,
    "minimum": lambda value, limit: value >= limit,
    "maximum": lambda value, limit: value <= limit,
    "exclusiveMinimum": lambda value, limit: value > limit,
    "exclusiveMaximum": lambda value, limit: value < limit,
    "minLength": lambda value, limit: len(value) >= limit,
    "minItems": lambda value, limit: len(value) >= limit,
    "maxItems": lambda value, limit: len(value) <= limit,
}
NOTES = {"title", "description", "default", "discriminator", "format", "$schema", "$defs"}
STRUCTURE = {"$ref", "type", "anyOf", "oneOf", "properties", "additionalProperties"}
KNOWN = {*NOTES, *STRUCTURE, *LIMITS, "items", "prefixItems"}


def is_valid(value: Any, schema: Any, root: dict[str, Any]) -> bool:
    """Check a value against the part of JSON schema that pydantic writes."""
    if isinstance(schema, bool):
        return schema
    assert schema.keys() <= KNOWN, schema.keys() - KNOWN
    if "$ref" in schema:
        return is_valid(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    for several, count in (("anyOf", any), ("oneOf", lambda found: sum(found) == 1)):
        if several in schema and not count([is_valid(value, s, root) for s in schema[several]]):
            return False
    if "type" in schema and (
        not isinstance(value, TYPES[schema["type"]])
        or (isinstance(value, bool) and schema["type"] != "boolean")
    ):
        return False
    if not all(LIMITS[name](value, schema[name]) for name in LIMITS.keys() & schema.keys()):
        return False
    return all(is_valid(inner, part, root) for inner, part in parts(value, schema))


def parts(value: Any, schema: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the values inside a value, each with its schema."""
    if isinstance(value, dict):
        named = schema.get("properties", {})
        for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
            yield inner, named.get(key, schema.get("additionalProperties", True))
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        for index, inner in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield inner, first[index] if index < len(first) else schema.get("items", True)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_files_are_valid(path: Path) -> None:
    schema = SCHEMAS[path.parent.name]
    assert is_valid(tomllib.loads(path.read_text()), schema, schema)


@pytest.mark.parametrize(
    ("text", "is_accepted"),
    [
        ("steps = 3", True),  # required keys may stand in another file
        ("steps = 0", False),
        ("stepz = 3", False),
        ("sampling.top_k = true", False),
        ('sampling.block_size = "none"', True),
        ('sampling.block_size = "all"', False),
        ("sampling.strategy = 'greedy'", False),
        ("optimizer.betas = [0.9]", False),
        ("optimizer.betas = [0.9, 0.95]", True),
        ("task = {kind = 'json', train = 'a.json'}", True),
        ("task = {kind = 'json', args = {}}", False),
        ("[[reward]]\nkind = 'speed'\nweight = 0.5", True),
        ("[[reward]]\nkind = 'sped'", False),
        ("lora.rank = 0", False),
        ("lora.targets = []", False),
        ("sampling.stop = ['']", False),
    ],
)
def test_files_are_accepted_as_by_the_configuration(text: str, is_accepted: bool) -> None:
    assert is_valid(tomllib.loads(text), SCHEMAS["rl"], SCHEMAS["rl"]) == is_accepted


@pytest.mark.parametrize("kind", CLASSES)
def test_every_key_is_described(kind: str) -> None:
    schema = SCHEMAS[kind]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    sentences = {
        " ".join(field.get("description", "").split())
        for table in (schema, *schema["$defs"].values())
        for field in table.get("properties", {}).values()
    }
    assert {key.sentence for key in keys(CLASSES[kind])} <= sentences
