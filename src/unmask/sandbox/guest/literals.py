"""Values of builtin types as JSON, for the exchange between a test and a program in its sandbox.

A test compares the results of a program. An object of the program's own class could make any comparison
true, so none crosses: a received value is of exactly the type int, float, complex, str, bytes, bool,
None, list, tuple, dict, set or frozenset, or is one of the builtin types themselves, rebuilt from text
in the test's process. A value of a subclass (`Counter`, a named tuple, an `IntEnum`) and a scalar or
array of numpy cross as the builtin value that they contain, read by the builtin's own methods, so an
overridden `__iter__` or `__eq__` is not called.

Values that JSON has are written as such; the others are a list that begins with a tag: `["tuple", 1, 2]`.
Integers beyond 2**53 are written in hexadecimal, which Python reads in linear time at any length.
"""

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

MAX_DEPTH = 100
MAX_PLAIN = 2**53
MAX_PLAIN_DIGITS = len(str(-MAX_PLAIN))
# Keys with equal hashes are compared with each other, in quadratic time; honest keys rarely have them.
MAX_SAME_HASH = 64
SEQUENCES: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
# The types are checked in this order.
TAGS: dict[Any, str] = {
    kind: kind.__name__ for kind in (int, *SEQUENCES.values(), dict, str, float, complex, bytes)
}
BUILTIN_TYPES: dict[str, Any] = {
    kind.__name__: kind for kind in (*TAGS, bool, bytearray, object, range, slice, type, type(None))
}


def refuse(value: Any) -> NoReturn:
    """Raise a TypeError: the value is no literal."""
    raise TypeError(type(value).__name__)


def pack(value: Any, depth: int = 0, refer: Callable[[Any], int] = refuse) -> Any:
    """Return a value in a form that JSON can represent.

    Args:
        value: the value.
        depth: nesting depth of the value; deeper than `MAX_DEPTH` is refused.
        refer: returns the number that stands for an object which does not cross.

    Raises:
        TypeError: it contains a value of another type; the message is that type's name.
        ValueError: it is nested deeper than `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    kind: Any = type(value)
    if value is None or kind in (bool, str, float):
        return value
    # Not isinstance: an object may override its `__class__`.
    base: Any = (
        kind if kind in TAGS else next((base for base in TAGS if issubclass(kind, base)), None)
    )
    if base is int:
        number = int.__pos__(value)  # a plain int, also of a subclass
        return number if -MAX_PLAIN < number < MAX_PLAIN else ["int", format(number, "x")]
    if base in SEQUENCES.values():
        values = base.__iter__(value)
        return [TAGS[base], *[pack(part, depth + 1, refer) for part in values]]
    if base is dict:
        # Flat, because JSON objects have text keys only: key, value, key, value, ...
        parts = [part for pair in dict.items(value) for part in pair]
        return ["dict", *[pack(part, depth + 1, refer) for part in parts]]
    if base is not None:
        return _packed_atom(base, value)
    # By identity: a class of the program may have the name of a builtin one.
    if kind is type and BUILTIN_TYPES.get(value.__name__) is value:
        return ["type", value.__name__]
    held = _held_by_numpy(value)
    return ["object", refer(value)] if type(held) is kind else pack(held, depth, refer)


def _packed_atom(base: Any, value: Any) -> Any:
    if base is complex:
        return ["complex", complex.real.__get__(value), complex.imag.__get__(value)]  # pyright: ignore
    if base is bytes:
        return ["bytes", bytes.hex(value)]
    return str.__str__(value) if base is str else float.__pos__(value)


def _held_by_numpy(value: Any) -> Any:
    """Return a numpy scalar or array as builtin values; other values unchanged."""
    numpy: Any = sys.modules.get("numpy")
    for name, convert in (("ndarray", "tolist"), ("generic", "item")):
        kind = getattr(numpy, name, None)
        if isinstance(kind, type) and issubclass(type(value), kind):
            return getattr(kind, convert)(value)
    return value


def unpack(packed: Any, depth: int = 0, object_at: Callable[[Any], Any] = refuse) -> Any:
    """Return the value of a packed one, which may come from a hostile program.

    Args:
        packed: the result of `pack`, or any other JSON value.
        depth: as for `pack`.
        object_at: returns the object that a number stands for.

    Raises:
        ValueError: it was not made by `pack`, or building it would take more than linear time.
    """
    try:
        return _unpack(packed, depth, object_at)
    except (TypeError, LookupError, RecursionError, MemoryError) as error:
        raise ValueError(f"no literal: {type(error).__name__}") from None


def _unpack(packed: Any, depth: int, object_at: Callable[[Any], Any]) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if type(packed) is not list:
        if type(packed) is dict:
            raise ValueError("no literal: an object")
        return packed
    tag, *parts = packed or [None]
    if tag == "dict" and len(parts) % 2 == 0:
        values = [_unpack(part, depth + 1, object_at) for part in parts]
        # Keys have even indices, their values the odd ones after them.
        return dict(zip(_as_keys(values[::2]), values[1::2], strict=True))
    if tag in SEQUENCES:
        values = [_unpack(part, depth + 1, object_at) for part in parts]
        return SEQUENCES[tag](_as_keys(values) if tag in ("set", "frozenset") else values)
    return _unpacked_atom(packed, object_at)


def _unpacked_atom(packed: list[Any], object_at: Callable[[Any], Any]) -> Any:
    match packed:
        case ["int", str(digits)]:
            return int(digits, 16)
        case ["bytes", str(digits)]:
            return bytes.fromhex(digits)
        case ["complex", float(real), float(imag)]:
            return complex(real, imag)
        case ["type", str(name)]:
            return BUILTIN_TYPES[name]
        case ["object", int(number)]:
            return object_at(number)
        case _:
            raise ValueError("no literal: unknown tag or wrong parts")


def _as_keys(values: list[Any]) -> list[Any]:
    """Return the keys of a dict or set, after checking that building it takes linear time."""
    if max(Counter(map(hash, values)).values(), default=0) > MAX_SAME_HASH:
        raise ValueError(f"no literal: more than {MAX_SAME_HASH} keys share one hash")
    return values


def parse_line(line: bytes) -> Any:
    """Return the value of a line of JSON from a program; None if it is not JSON."""
    with contextlib.suppress(ValueError, RecursionError, MemoryError):
        return json.loads(line, parse_int=_plain_int)
    return None


def _plain_int(digits: str) -> int:
    """Read an integer as long as `pack` writes it; longer ones would take quadratic time."""
    if len(digits) > MAX_PLAIN_DIGITS:
        raise ValueError("no literal: too many digits")
    return int(digits)
