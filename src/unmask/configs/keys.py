"""The list of configuration keys, each with type, default and sentence, and the JSON schema.

Both are read from the sections. A key that is not listed here is an error, and an error about a value
quotes the type listed here.

The key `kind` selects the section of a union (`[task]`); the attribute `when` of a key names the kinds
that have it, if not all do. A list of sections (`[[reward]]`) is one key, given as a whole; the keys of
its tables are listed below it as `reward[].weight`. The keys of a table of named sections
(`[variations.static]`) are listed under the name `NAME`.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticUndefined

REQUIRED = "required"
BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
# A TOML key that needs no quotes.
BARE = re.compile(r"[A-Za-z0-9_-]+")
# Any name, in the keys of a table of sections.
ANY_NAME = "NAME"
TYPE_NAMES: dict[Any, str] = {str: "string", Path: "path", Any: "value"}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a configuration.

    Attributes:
        name: dotted, as in `key=value`.
        type: the accepted values, as text: `float > 0`, `"static" | "dynamic"`, `int >= 1 | none`.
        default: the default as a TOML value, or `REQUIRED`.
        sentence: its meaning.
        is_optional: whether the word `none` is accepted.
        when: the kinds of section that have it (`task.kind = "json"`); empty if all do.
    """

    name: str
    type: str
    default: str
    sentence: str
    is_optional: bool = False
    when: str = ""

    def names(self, name: str) -> bool:
        """Return whether this is the key of that name; `NAME` in this key matches any part."""
        own, other = self.name.split("."), name.split(".")
        pairs = zip(own, other, strict=False)
        return len(own) == len(other) and all(a in (b, ANY_NAME) for a, b in pairs)


def keys(cls: type[BaseModel], prefix: str = "", defaults: BaseModel | None = None) -> list[Key]:
    """List every key of a configuration, in the order of its sections.

    Args:
        cls: the configuration, or one of its sections.
        prefix: of every name.
        defaults: an instance whose values are the defaults, where they differ from those of the class.
    """
    found: list[Key] = []
    for name, field in cls.model_fields.items():
        default = getattr(defaults, name) if defaults else field.get_default()
        found += _field_keys(prefix + name, field, default)
    return found


# Every configuration that is loaded asks for them, and changes none.
keys_of = cache(keys)


def schema_text(cls: type[BaseModel]) -> str:
    """Return the JSON schema (draft 2020-12) of a configuration's TOML file, for editors.

    No key is required, because another file or the command line may give it, and the word `none` stands
    for null.
    """
    text = json.dumps({"$schema": GenerateJsonSchema.schema_dialect, **cls.model_json_schema()})
    return json.dumps(json.loads(text, object_hook=_of_toml), indent=1, ensure_ascii=False)


def _of_toml(node: dict[str, Any]) -> dict[str, Any]:
    if node == {"type": "null"}:
        return {"const": "none"}
    if node.get("default", "") is None:
        node["default"] = "none"
    if (
        "discriminator" in node
    ):  # the kind may stand in another file, so that several tables accept this one
        node["anyOf"] = node.pop("oneOf")
    # A key of that name would be a table.
    return {key: value for key, value in node.items() if (key, type(value)) != ("required", list)}


def to_toml(value: object) -> str:
    """Return a value as TOML text.

    TOML has no null: None becomes the word `"none"`, which `load_config` reads as None. Inside a table,
    where that word is not read, a key without a value is left out.
    """
    if isinstance(value, BaseModel):
        return to_toml(value.model_dump(mode="json"))
    if isinstance(value, dict):
        pairs = [(key, inner) for key, inner in value.items() if inner is not None]
        inside = ", ".join(f"{_bare(str(key))} = {to_toml(inner)}" for key, inner in pairs)
        return f"{{{inside}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(to_toml, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = json.dumps("none" if value is None else value, ensure_ascii=False, default=str)
    return text.replace("\x7f", "\\u007f")  # the one control character that JSON leaves


def _bare(key: str) -> str:
    return key if BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _field_keys(name: str, field: FieldInfo, default: Any) -> list[Key]:
    alternatives = _alternatives(field.annotation)
    sections = [part for part in alternatives if _is_section(part)]
    is_optional = NoneType in alternatives
    own = Key(
        name,
        _type_text(field.annotation, field.metadata),
        REQUIRED if default is PydanticUndefined else to_toml(default),
        " ".join((field.description or "").split()),
        is_optional,
    )
    if items := _item_sections(alternatives):
        is_union = "kind" in items[0].model_fields
        of_items = _variant_keys(f"{name}[]", items) if is_union else keys(items[0], f"{name}[].")
        return [own, *of_items]
    tables = [get_args(part)[1] for part in alternatives if get_origin(part) is dict]
    if tables and _is_section(tables[0]):
        return [own, *keys(tables[0], f"{name}.{ANY_NAME}.")]
    if not sections:
        return [own]
    head = [own] if is_optional else []
    if len(sections) > 1:
        return head + _variant_keys(name, sections, default)
    defaults = default if isinstance(default, BaseModel) else None
    return head + keys(sections[0], f"{name}.", defaults)


def _variant_keys(
    name: str, sections: list[type[BaseModel]], default: Any = PydanticUndefined
) -> list[Key]:
    """List the keys of a union of sections: `kind`, then each key with the kinds that have it."""
    of_kind = [section.model_fields["kind"].annotation for section in sections]  # Literal types
    kinds = [" | ".join(map(to_toml, get_args(literal))) for literal in of_kind]
    owners: dict[Key, list[str]] = {}
    for kind, section in zip(kinds, sections, strict=True):
        for key in keys(section, f"{name}."):
            if key.name != f"{name}.kind":
                owners.setdefault(key, []).append(kind)
    first = default.__class__ if isinstance(default, BaseModel) else sections[0]
    sentence = " ".join((first.model_fields["kind"].description or "").split())
    own = to_toml(default.kind) if isinstance(default, BaseModel) else REQUIRED  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
    return [Key(f"{name}.kind", " | ".join(kinds), own, sentence)] + [
        key if having == kinds else replace(key, when=f"{name}.kind = {' | '.join(having)}")
        for key, having in owners.items()
    ]


def _alternatives(annotation: Any) -> list[Any]:
    """Return the alternatives of `A | B | None`, also of one wrapped in `Annotated`."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [part for branch in get_args(annotation) for part in _alternatives(branch)]
    return [annotation]


def _item_sections(alternatives: list[Any]) -> list[type[BaseModel]]:
    """Return the sections that are accepted as items of a list."""
    lists = [part for part in alternatives if get_origin(part) in (tuple, list)]
    found = [part for one in lists for item in get_args(one) for part in _alternatives(item)]
    return [part for part in found if _is_section(part)]


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _type_text(annotation: Any, bounds: Sequence[Any] = ()) -> str:
    """Return the type of a value as text; `bounds` holds the metadata of its annotation."""
    if get_origin(annotation) is Annotated:
        inner, *stated = get_args(annotation)
        # `Field(ge=1)` holds its bounds as metadata.
        return _type_text(
            inner, [bound for part in stated for bound in getattr(part, "metadata", [part])]
        )
    branches = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    parts = [_type_text(branch) for branch in branches if branch is not NoneType]
    limits = [
        f"{sign} {limit}"
        for bound in bounds
        for name, sign in BOUNDS.items()
        if (limit := getattr(bound, name, None)) is not None
    ]
    names = " | ".join(dict.fromkeys(parts)) or _alternative_text(annotation)
    text = f"{names} {', '.join(limits)}".strip()
    if any(getattr(bound, "min_length", None) for bound in bounds):
        text = f"non-empty {text}"
    if any(getattr(bound, "zero", "") for bound in bounds):
        text = f"0 | {text}"
    return f"{text} | none" if NoneType in branches else text


def _alternative_text(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is dict or _is_section(annotation):
        return "table"
    if origin is Literal:
        return " | ".join(to_toml(choice) for choice in args)
    if origin in (tuple, list):
        items = ["..." if item is Ellipsis else _type_text(item) for item in args]
        return f"[{', '.join(items if origin is tuple else [*items, '...'])}]"
    return TYPE_NAMES.get(annotation) or annotation.__name__
