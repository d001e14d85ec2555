"""JSON schemas: what can be guaranteed is prepared, everything else refused by its place."""

import json
from typing import Any

import pytest

from unmask.engine.json_schemas import DEPTH, checked_schema, unanchored


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (True, "#: True must be a schema, an object"),
        ({"type": "integer", "minimum": 3}, "#: minimum next to type cannot be guaranteed"),
        ({"type": "number", "multipleOf": 2}, "multipleOf next to type"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems next to type"),
        ({"type": "float"}, "type = 'float' must be one of string, array"),
        ({"type": []}, "must be a list with at least one entry"),
        ({"type": ["string", "null"], "minLength": 1}, "keywords of several types at once"),
        ({"allOf": [{"type": "string"}]}, "#: allOf without a type"),
        ({"oneOf": [{"type": "string"}]}, "oneOf without a type"),
        ({"not": {}}, "not without a type"),
        ({"anyOf": []}, "#/anyOf: .* at least one entry"),
        ({"anyOf": [{"type": "null"}], "type": "null"}, "type next to anyOf"),
        ({"anyOf": [{"type": "integer", "maximum": 1}]}, "#/anyOf/0: maximum"),
        ({"enum": []}, "at least one entry"),
        ({"enum": [[1]]}, r"the value \[1\] must be a string, a number"),
        ({"const": "a", "type": "integer"}, "the value 'a' must be .* of type integer"),
        ({"const": True, "type": "integer"}, "the value True must be"),
        ({"type": "string", "format": "email"}, "format = 'email' must be one of date, time"),
        ({"type": "string", "pattern": "a", "minLength": 2}, "minLength next to pattern"),
        ({"type": "object", "required": ["a"]}, r"required = \['a'\] are not among"),
        ({"type": "object", "additionalProperties": False}, "without any property"),
        ({"type": "object", "properties": {'a"': {"type": "null"}}}, "needs escapes in JSON"),
        ({"type": "object", "properties": []}, None),
        ({"type": "object", "properties": {"a": 3}}, "#/properties/a: 3 must be a schema"),
        ({"type": "object", "properties": 3}, "#/properties: 3 must be an object of schemas"),
        ({"type": "object", "minProperties": 1}, "minProperties next to type"),
        ({"$ref": "#/$defs/A"}, r"\$ref = '#/\$defs/A' must lead to a schema"),
        ({"$ref": "other.json"}, "must lead to a schema in this document"),
        ({"$ref": "#/default", "default": {"type": "integer", "minimum": 5}}, "must lead to"),
        ({"$ref": 3}, "a value of a wrong type"),
        ({"type": [["a"]]}, "a value of a wrong type"),
        ({"type": "string", "format": ["x"]}, "a value of a wrong type"),
        ({"type": "object", "required": 5}, "a value of a wrong type"),
        ({"enum": ["a"], "type": 5}, "a value of a wrong type"),
        ({"$ref": "#", "type": "object"}, r"type next to \$ref"),
        ({"$defs": {"A": {"type": "string", "minItems": 1}}, "$ref": "#/$defs/A"}, "minItems"),
    ],
)
def test_what_cannot_be_guaranteed_is_refused(schema: Any, message: str | None) -> None:
    if message is None:
        checked_schema(json.dumps(schema))
        return
    with pytest.raises(ValueError, match=message):
        checked_schema(json.dumps(schema))


def test_text_that_is_not_json_is_refused() -> None:
    with pytest.raises(ValueError, match="is not JSON"):
        checked_schema("{type")
    with pytest.raises(ValueError, match=r"nested too deeply|is not JSON"):
        checked_schema("[" * 200_000)


def test_patterns_and_formats_are_collected() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "string", "pattern": r"^\d[\w-]\\d$"},
            "b": {"type": "string", "format": "uuid"},
        },
        "additionalProperties": False,
    }
    text, patterns = checked_schema(json.dumps(schema))
    assert patterns[0] == r"(?:[0-9][[0-9A-Za-z_]-]\\d)", "digits and letters of ASCII"
    assert "[0-9a-f]{8}" in patterns[1]
    prepared = json.loads(text)["properties"]
    assert prepared["a"]["pattern"] == patterns[0] and prepared["b"] == {
        "type": "string",
        "pattern": patterns[1],
    }


def test_descriptions_limit_nothing() -> None:
    schema = {"title": "T", "description": "D", "default": 3, "type": "integer", "$comment": "c"}
    assert json.loads(checked_schema(json.dumps(schema))[0]) == schema


LEAF = {"type": "null"}


@pytest.mark.parametrize(
    ("schema", "unrolled"),
    [
        # A property that is needed has no value left: neither has its object.
        ({"a": {"$ref": "#"}, "b": LEAF}, None),
        ({"a": {"anyOf": [{"$ref": "#"}, LEAF]}}, {"a": {"anyOf": [LEAF]}}),
        (
            {"a": {"type": "array", "items": {"$ref": "#"}}},
            {"a": {"type": "array", "items": {"type": "null"}, "maxItems": 0}},
        ),
        ({"a": {"type": "array", "items": {"$ref": "#"}, "minItems": 1}}, None),
        (
            {"a": {"type": "object", "additionalProperties": {"$ref": "#"}}},
            {"a": {"type": "object", "maxProperties": 0}},
        ),
    ],
)
def test_recursion_ends_in_what_still_has_a_value(schema: Any, unrolled: Any) -> None:
    whole = {"type": "object", "properties": schema, "required": ["a"]}
    if unrolled is None:
        with pytest.raises(ValueError, match="no value of it ends within 3 levels of recursion"):
            checked_schema(json.dumps(whole))
        return
    found = checked_schema(json.dumps(whole))[0]
    assert found.count('"properties"') == 1 + DEPTH and "$ref" not in found
    innermost = json.dumps({"type": "object", "properties": unrolled, "required": ["a"]})
    assert innermost in found


def test_a_property_that_may_be_missing_is_left_out_where_it_has_no_value() -> None:
    whole = {"type": "object", "properties": {"a": {"$ref": "#"}, "b": LEAF}, "required": ["b"]}
    found = json.loads(checked_schema(json.dumps(whole))[0])
    for _ in range(DEPTH):
        found = found["properties"]["a"]
    assert found["properties"] == {"b": LEAF}


def test_a_schema_that_unrolls_without_end_is_refused() -> None:
    wide = {name: {"$ref": "#"} for name in map(str, range(60))}
    with pytest.raises(ValueError, match="unroll to more than 10,000 schemas"):
        checked_schema(json.dumps({"type": "object", "properties": wide}))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("^a$", "a"), ("a", "a"), (r"a\$", r"a\$"), (r"a\\$", r"a\\"), ("^a|b$", "a|b"), ("", "")],
)
def test_anchors_are_left_out(pattern: str, expected: str) -> None:
    assert unanchored(pattern) == expected
