"""Values of builtin types and their subclasses cross, other objects do not, and no text breaks the parser."""

import json
import math
import time
from collections import Counter, OrderedDict, defaultdict, namedtuple
from enum import Enum, IntEnum, StrEnum
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.sandbox.guest.literals import MAX_DEPTH, pack, unpack

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


def test_values_unequal_to_themselves_cross_too():
    assert math.isnan(crossed(float("nan")))
    assert math.isnan(crossed([complex(0.0, float("nan"))])[0].imag)
    assert str(crossed(-0.0)) == "-0.0"
    assert crossed("\ud800") == "\ud800"


class Small(IntEnum):
    ONE = 1


class Word(StrEnum):
    YES = "yes"


class Color(Enum):
    RED = 1


Pair = namedtuple("Pair", "x y")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Counter("aba"), {"a": 2, "b": 1}),
        (defaultdict(list, {1: [Counter("a")]}), {1: [{"a": 1}]}),
        (OrderedDict(a=1), {"a": 1}),
        (Pair(1, [Small.ONE]), (1, [1])),
        (Small.ONE, 1),
        (Word.YES, "yes"),
        (type("Flags", (set,), {})([1]), {1}),
        (type("Half", (float,), {})(0.5), 0.5),
        (type("Turn", (complex,), {})(1j), 1j),
        (type("Data", (bytes,), {})(b"x"), b"x"),
        (numpy.int64(-3), -3),
        (numpy.float64(0.5), 0.5),
        (numpy.float32(0.5), 0.5),
        (numpy.bool_(True), True),
        (numpy.str_("x"), "x"),
        (numpy.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (numpy.array(7), 7),
        ({numpy.int64(1): (numpy.array([0.5]),)}, {1: ([0.5],)}),
        ([int, str, list], [int, str, list]),
    ],
)
def test_values_that_contain_a_builtin_value_cross_as_that_value(value: object, expected: object):
    assert crossed(value) == expected
    assert same_types(crossed(value), expected)


class LyingMeta(type):
    __mro__ = property(lambda cls: (cls, dict, object))  # type: ignore[assignment]

    def __instancecheck__(cls, instance: object) -> bool:
        return True


def liar(base: type, *args: object) -> object:
    """Return a value of a subclass in which every method returns something else than the base's."""
    lies = {
        "__eq__": lambda *_: True,
        "__hash__": lambda _: 1,
        "__iter__": lambda _: iter([9]),
        "items": lambda _: [(9, 9)],
        "__len__": lambda _: 9,
        "__getitem__": lambda *_: 9,
        "__str__": lambda _: "9",
        "__repr__": lambda _: "9",
        "__index__": lambda _: 9,
        "__pos__": lambda _: 9,
        "hex": lambda *_: "09",
        "real": 9.0,
        "__class__": property(lambda _: list),
        "__reduce__": lambda _: (int, ("9",)),
    }
    return type("Liar", (base,), lies)(*args)


@pytest.mark.parametrize(
    "value", [5, 0.5, 1j, "text", b"data", [1, 2], (1, 2), {1, 2}, frozenset({1}), {1: 2}]
)
def test_overridden_methods_have_no_say(value: object):
    assert crossed(liar(type(value), value)) == value
    assert crossed([liar(type(value), value)]) == [value]
    assert same_types(crossed(liar(type(value), value)), value)


def test_a_lie_about_the_class_makes_no_literal():
    for value in (liar(object), LyingMeta("Liar", (), {})(), type("numpy.int64", (), {})()):
        with pytest.raises(TypeError):
            pack(value)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Color.RED,
        numpy.longdouble(1),
        numpy.array([object()]),
        LyingMeta("Own", (), {}),
        type("Own", (), {}),
        type("int", (), {}),
        range(3),
        iter([1]),
        (x for x in "ab"),
        bytearray(b"x"),
        len,
        NotImplemented,
        ...,
    ],
)
def test_any_other_type_stays_out_wherever_it_hides(value: object):
    for hidden in (value, [value], (1, value), {"key": value}, {1: [value]}):
        with pytest.raises(TypeError):
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
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="nested"):
        pack(endless)
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
        ["type", "eval"],
        ["type", ["list"]],
        ["object", 0],
    ],
)
def test_values_that_were_not_packed_are_refused(packed: object):
    with pytest.raises(ValueError, match=r"literal|int\(\)|hexadecimal"):
        unpack(packed)


PRIME = 2**61 - 1  # integers that differ by it have one hash


@pytest.mark.parametrize(
    ("kind", "wrap"),
    [(set, lambda x: x), (frozenset, lambda x: (x, 1)), (dict, lambda x: frozenset([x]))],
)
def test_keys_of_one_hash_are_refused_before_they_are_compared(kind: Any, wrap: Any):
    packed = [pack(wrap(PRIME * n)) for n in range(100_000)]
    tag = kind.__name__
    start = time.process_time()
    with pytest.raises(ValueError, match="share one hash"):
        unpack([tag, *(part for key in packed for part in ([key, 1] if tag == "dict" else [key]))])
    assert time.process_time() - start < 20  # built of them, a table takes minutes


def test_a_few_keys_may_share_a_hash():
    value = {PRIME * n for n in range(50)} | {-1, -2}
    assert crossed(value) == value


def test_objects_cross_as_numbers_where_that_is_allowed():
    thing, things = object(), [object()]
    packed = pack([thing, {"a": thing}], refer=lambda value: 0 if value is thing else 1)
    assert unpack(packed, object_at=things.__getitem__) == [things[0], {"a": things[0]}]
    with pytest.raises(ValueError, match="no literal"):
        unpack(["object", 1], object_at=things.__getitem__)


def test_a_number_without_end_is_read_in_linear_time():
    assert crossed(7**100_000) == 7**100_000
