"""Values of exact builtin types as JSON: what may cross the wall of the sandbox.

A test compares what a program returns. An object of the program's own class could answer any
comparison with yes, so no object ever crosses: only values whose type is exactly int, float,
complex, str, bytes, bool, None, list, tuple, dict, set or frozenset, rebuilt from text on the side
of the test. A subclass is another type.

What JSON has, it writes; the rest is a list that opens with its tag: `["tuple", 1, 2]`. Integers
past 2**53 are written in hexadecimal, which has no limit on digits and is read in linear time.
"""

from typing import Any

MAX_DEPTH = 100
MAX_PLAIN = 2**53
SEQUENCES: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
TAGS = {kind: tag for tag, kind in SEQUENCES.items()}


def pack(value: Any, depth: int = 0) -> Any:
    """Turn a value into what JSON can write.

    Raises:
        TypeError: it holds something of another type; the message is that type's name.
        ValueError: it is nested deeper than `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    kind: Any = type(value)
    if value is None or kind in (bool, str, float):
        return value
    if kind is int:
        return value if -MAX_PLAIN < value < MAX_PLAIN else ["int", format(value, "x")]
    if kind is dict:
        flat = [part for pair in value.items() for part in pair]
        return ["dict", *(pack(part, depth + 1) for part in flat)]
    if kind in TAGS:
        return [TAGS[kind], *(pack(part, depth + 1) for part in value)]
    if kind is bytes:
        return ["bytes", value.hex()]
    if kind is complex:
        return ["complex", value.real, value.imag]
    raise TypeError(kind.__name__)


def unpack(packed: Any) -> Any:
    """Turn what JSON has read back into the value; whoever wrote it may be hostile.

    Raises:
        ValueError: it was not written by `pack`.
    """
    try:
        return _unpack(packed, 0)
    except (TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"no literal: {type(error).__name__}") from None


def _unpack(packed: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if type(packed) is not list:
        if type(packed) is dict:
            raise ValueError("no literal: an object")
        return packed
    tag, *parts = packed or [None]
    if tag in SEQUENCES:
        return SEQUENCES[tag](_unpack(part, depth + 1) for part in parts)
    if tag == "dict" and len(parts) % 2 == 0:
        values = [_unpack(part, depth + 1) for part in parts]
        return dict(zip(values[::2], values[1::2], strict=True))
    if tag == "int":
        return int(_exactly(parts, str)[0], 16)
    if tag == "bytes":
        return bytes.fromhex(*_exactly(parts, str))
    if tag == "complex":
        return complex(*_exactly(parts, float, float))
    raise ValueError("no literal: unknown tag")


def _exactly(parts: list[Any], *kinds: type) -> list[Any]:
    if [type(part) for part in parts] != list(kinds):
        raise ValueError("no literal: wrong parts")
    return parts
