"""Bounds of record fields, stated once, in the annotations of a frozen dataclass.

    block_size: Annotated[int | None, Bound(ge=1, le=2**20)] = None

`check_fields` checks an instance of the dataclass. A pydantic section with the same fields inherits
them from the dataclass (`class SamplingConfig(Section, SamplingFields)`); pydantic then reads the same
`Bound`, so that the section and the record accept the same values. Standard library only.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

# Larger numbers overflow in the libraries below. Keys that cost memory or threads have lower limits.
LARGEST = 2**32 - 1
# By the name of a bound: its words, and the comparison of a value with it.
SIGNS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "ge": ("at least", operator.ge),
    "gt": ("above", operator.gt),
    "le": ("at most", operator.le),
    "lt": ("below", operator.lt),
}
TYPE_NAMES = {
    int: "a whole number (int)",
    float: "a number",
    bool: "True or False",
    str: "a string",
}
ITEM_NAMES = {int: "whole numbers", str: "strings"}
PLAIN = (NoneType, bool, int, float, str)


@dataclass(frozen=True, slots=True)
class Bound:
    """Bounds of a number, or the least length of a string or a tuple.

    Numbers are not converted: `True`, `"4"` and, for an int, `4.0` are refused.

    Attributes:
        ge: least number.
        gt: the number is above this.
        le: largest number.
        lt: the number is below this.
        min_length: least length of a string or a tuple.
        zero: what 0 means, where 0 is accepted in addition to the numbers from `ge`.
        hint: the end of the error message: why, or what to write instead.
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    min_length: int | None = None
    zero: str = ""
    hint: str = ""

    def problem(self, value: Any) -> str:
        """Return what is wrong with a value of the right type; empty if it is within the bounds."""
        if self.min_length is not None:
            is_within = len(value) >= self.min_length
            words = ["have a length of at least", str(self.min_length)]
        else:
            limits = [(*sign, getattr(self, name)) for name, sign in SIGNS.items()]
            limits = [limit for limit in limits if limit[-1] is not None]
            is_within = (self.zero and value == 0) or all(ok(value, x) for _, ok, x in limits)
            stated = [f"{sign} {limit}" for sign, _, limit in limits]
            words = [f"be {f'0 ({self.zero}), or ' if self.zero else ''}{' and '.join(stated)}"]
        return "" if is_within else f"must {' '.join(words)}{self.hint and f': {self.hint}'}"

    def __get_pydantic_core_schema__(
        self, source: Any, handler: Callable[[Any], dict[str, Any]]
    ) -> dict[str, Any]:
        """Put the bounds into pydantic's schema, whose keys have the names of the attributes."""
        schema = handler(source)
        inner = schema["schema"] if schema["type"] == "nullable" else schema
        limits = {name: getattr(self, name) for name in (*SIGNS, "min_length")}
        inner.update({name: limit for name, limit in limits.items() if limit is not None})
        if self.min_length is None:
            inner["strict"] = True
        if not self.zero:
            return schema
        inner["ge"] = 0
        function = {"type": "no-info", "function": self._checked}
        return {"type": "function-after", "function": function, "schema": schema}

    def _checked(self, value: Any) -> Any:
        if problem := self.problem(value):
            raise ValueError(f"{value} {problem}")
        return value


def check_fields(record: Any) -> None:
    """Check every field of a dataclass instance against its annotation; lists become tuples, in place.

    Understands numbers, bools and strings, `Literal`, tuples of one type, each also `| None`.

    Raises:
        ValueError: naming the field, its value and what would be accepted.
    """
    for name, hint in _hints(type(record)).items():
        value = getattr(record, name)
        # Requests differ in their seed alone. Items of a tuple are compared by value, so that the cache
        # would take (True,) for (1,).
        is_plain = not value if isinstance(value, tuple) else type(value) in PLAIN
        problem = _field_problem(type(record), name, value) if is_plain else _problem(value, hint)
        if problem:
            raise ValueError(f"{name} = {value!r}: {problem}")
        if isinstance(value, list):
            object.__setattr__(record, name, tuple(value))  # pyright: ignore[reportUnknownArgumentType]


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


@lru_cache(maxsize=1024, typed=True)
def _field_problem(cls: type, name: str, value: Any) -> str:
    """Return `_problem` of a field; `typed` tells 1 from True and 1.0."""
    return _problem(value, _hints(cls)[name])


def _problem(value: Any, hint: Any) -> str:
    """Return what is wrong with a value; empty if nothing is."""
    bound = Bound()
    if get_origin(hint) is Annotated:
        hint, bound = get_args(hint)
    alternatives = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None and NoneType in alternatives:
        return ""
    (kind,) = (one for one in alternatives if one is not NoneType)
    if get_origin(kind) is Literal:
        return "" if value in get_args(kind) else f"must be one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        return _tuple_problem(value, get_args(kind)[0]) or bound.problem(value)
    accepted = (int, float) if kind is float else kind
    # bool is a subclass of int, and numbers of numpy are not ints: a batch could not hold them.
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        return f"must be {TYPE_NAMES[kind]}, not {type(value).__name__}"
    return bound.problem(value)


def _tuple_problem(value: Any, item: Any) -> str:
    if not isinstance(value, tuple | list):
        kind = get_args(item)[0] if get_origin(item) is Annotated else item
        return f"must be a tuple of {ITEM_NAMES[kind]}; write ({value!r},)"
    problems = ((one, _problem(one, item)) for one in value)  # pyright: ignore[reportUnknownVariableType]
    return next((f"{one!r} {problem}" for one, problem in problems if problem), "")
