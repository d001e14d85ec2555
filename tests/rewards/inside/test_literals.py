"""Values of exact builtin types cross whole; nothing else crosses, and no text breaks the reader."""

import json
import math
from collections import Counter, OrderedDict
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.rewards.inside.literals import MAX_DEPTH, pack, unpack

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**3000), max_value=2**3000)
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary()
)
KEYS = ATOMS | st.tuples(ATOMS, ATOMS) | st.frozensets(ATOMS, max_size=3)
VALUES = st.recursive(
    ATOMS | st.sets(KEYS, max_size=3) | st.frozensets(KEYS, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
    ),
)


def crossed(value: object) -> Any:
    return unpack(json.loads(json.dumps(pack(value))))


def same_types(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return all(map(same_types, a, b))
    return all(same_types(a[key], b[key]) for key in a) if isinstance(a, dict) else True


@given(VALUES)
def test_a_value_comes_out_as_it_went_in(value: object):
    assert crossed(value) == value
    assert same_types(crossed(value), value)


def test_what_equals_nothing_crosses_too():
    assert math.isnan(crossed(float("nan")))
    assert math.isnan(crossed([complex(0.0, float("nan"))])[0].imag)
    assert str(crossed(-0.0)) == "-0.0"
    assert crossed("\ud800") == "\ud800"


class Small(IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Counter("ab"),
        OrderedDict(a=1),
        Small.ONE,
        type("Text", (str,), {})("x"),
        range(3),
        iter([1]),
        (x for x in "ab"),
        bytearray(b"x"),
        len,
        int,
        NotImplemented,
        ...,
    ],
)
def test_any_other_type_stays_out_wherever_it_hides(value: object):
    for hidden in (value, [value], (1, value), {"key": value}, {1: [value]}):
        with pytest.raises(TypeError, match=type(value).__name__):
            pack(hidden)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_depth_is_limited_on_both_sides():
    assert crossed(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    with pytest.raises(ValueError, match="nested"):
        pack(nested(MAX_DEPTH + 1))
    packed: list[Any] = ["list"]
    for _ in range(MAX_DEPTH + 1):
        packed = ["list", packed]
    with pytest.raises(ValueError, match="nested"):
        unpack(packed)


@pytest.mark.parametrize(
    "packed",
    [
        {},
        {"int": "ff"},
        [],
        ["object", 1],
        [["list"]],
        [None],
        ["int"],
        ["int", 5],
        ["int", "no number"],
        ["int", "ff", "ff"],
        ["bytes", "zz"],
        ["bytes", None],
        ["complex", 1, 2],
        ["complex", "1", "2"],
        ["dict", 1],
        ["dict", ["list"], 1],
        ["set", ["list"]],
        ["set", ["dict"]],
    ],
)
def test_what_was_not_packed_is_refused(packed: object):
    with pytest.raises(ValueError, match=r"literal|int\(\)|hexadecimal"):
        unpack(packed)


def test_a_number_without_end_is_read_in_linear_time():
    assert crossed(7**100_000) == 7**100_000
