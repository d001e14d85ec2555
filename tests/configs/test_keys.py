"""Every key is listed once, with a type, a default and a sentence a user can act on."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from unmask.configs.eval import EvalConfig
from unmask.configs.keys import REQUIRED, Key, keys, to_toml
from unmask.configs.rl import RLConfig
from unmask.configs.section import Section
from unmask.configs.sft import SFTConfig


class Leaf(Section):
    """A section."""

    size: int = 3
    """How large."""


class Apple(Section):
    """One kind."""

    kind: Literal["apple"] = "apple"
    """Which fruit."""
    shared: bool = True
    """Both have it."""
    seeds: int = Field(default=5, ge=0, lt=9)
    """Only apples."""


class Pear(Section):
    """Another kind."""

    kind: Literal["pear"] = "pear"
    """Which fruit."""
    shared: bool = True
    """Both have it."""


class Garden(Section):
    """Every shape of key."""

    leaf: Leaf = Leaf(size=7)
    """A section with its own default."""
    fruit: Annotated[Apple | Pear, Field(discriminator="kind")] | None = None
    """A union."""
    rate: float | None = Field(default=None, gt=0)
    """May be absent."""
    pair: tuple[float, int] = (0.5, 2)
    """Two numbers."""
    ids: tuple[int, ...] = ()
    """Any number of numbers."""
    names: list[str] = []
    """Strings."""
    extra: dict[str, Any] = {}
    """Anything."""
    basket: tuple[Annotated[Apple | Pear, Field(discriminator="kind")], ...] = (Pear(),)
    """A list of sections."""


def listed() -> dict[str, Key]:
    return {key.name: key for key in keys(Garden)}


@pytest.mark.parametrize(
    ("name", "type_", "default"),
    [
        ("leaf.size", "int", "7"),
        ("fruit", "table | none", '"none"'),
        ("fruit.kind", '"apple" | "pear"', REQUIRED),
        ("fruit.seeds", "int >= 0, < 9", "5"),
        ("rate", "float > 0 | none", '"none"'),
        ("pair", "[float, int]", "[0.5, 2]"),
        ("ids", "[int, ...]", "[]"),
        ("names", "[string, ...]", "[]"),
        ("extra", "table", "{}"),
        ("basket", "[table, ...]", '[{kind = "pear", shared = true}]'),
        ("basket[].kind", '"apple" | "pear"', REQUIRED),
        ("basket[].seeds", "int >= 0, < 9", "5"),
    ],
)
def test_type_and_default(name: str, type_: str, default: str) -> None:
    key = listed()[name]
    assert (key.type, key.default) == (type_, default)


def test_sections_themselves_are_no_keys() -> None:
    assert "leaf" not in listed()


def test_optional_keys_are_marked() -> None:
    assert {name for name, key in listed().items() if key.is_optional} == {"fruit", "rate"}


def test_keys_of_one_kind_say_so() -> None:
    assert listed()["fruit.seeds"].when == 'fruit.kind = "apple"'
    assert listed()["fruit.shared"].when == ""


@pytest.mark.parametrize("cls", [SFTConfig, RLConfig, EvalConfig])
def test_real_keys_are_unique_and_explained(cls: type[Section]) -> None:
    found = keys(cls)
    assert len({(key.name, key.when) for key in found}) == len(found)
    assert all(key.sentence.endswith(".") and key.type for key in found)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, '"none"'),
        (True, "true"),
        ({"a b": [{"c": None, "d": 1}]}, '{"a b" = [{d = 1}]}'),
        ("é\n", '"é\\n"'),
        ((1, 2), "[1, 2]"),
        (1e-5, "1e-05"),
        (float("inf"), "inf"),
        (-float("inf"), "-inf"),
        (float("nan"), "nan"),
        ("a\x7f\u2028", '"a\\u007f\u2028"'),
    ],
)
def test_values_are_toml(value: object, text: str) -> None:
    assert to_toml(value) == text
