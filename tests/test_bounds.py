"""A field's annotation states its type and bounds; a value outside them is refused in one sentence."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from unmask.bounds import Bound, check_fields


@dataclass(frozen=True, slots=True)
class Record:
    """Every kind of field."""

    count: Annotated[int, Bound(ge=1, lt=9)] = 1
    share: Annotated[float | None, Bound(gt=0, le=1, hint="none is the default")] = None
    rate: Annotated[float, Bound(ge=0.5, le=2, zero="off")] = 1.0
    way: Literal["here", "there"] = "here"
    is_on: bool = True
    name: Annotated[str, Bound(min_length=1)] = "a"
    ids: tuple[Annotated[int, Bound(ge=0)], ...] | None = None
    names: Annotated[tuple[str, ...], Bound(min_length=1)] = ("a",)

    def __post_init__(self) -> None:
        """Check the fields."""
        check_fields(self)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("count", 8), ("share", None), ("share", 1), ("rate", 0), ("rate", 0.5), ("rate", 2)),
        *(("way", "there"), ("is_on", False), ("ids", ()), ("ids", (3,)), ("names", ("b", "c"))),
    ],
)
def test_accepted_values_are_kept(field: str, value: Any) -> None:
    assert getattr(Record(**{field: value}), field) == value


def test_a_list_becomes_a_tuple() -> None:
    fields: dict[str, Any] = {"ids": [3, 4]}
    assert Record(**fields).ids == (3, 4)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("count", 0, "count = 0: must be at least 1 and below 9"),
        ("count", 9, "count = 9: must be at least 1 and below 9"),
        ("count", 2.0, "count = 2.0: must be a whole number (int), not float"),
        ("count", True, "count = True: must be a whole number (int), not bool"),
        ("count", None, "count = None: must be a whole number (int), not NoneType"),
        ("share", 0.0, "share = 0.0: must be above 0 and at most 1: none is the default"),
        ("share", "1", "share = '1': must be a number, not str"),
        ("share", float("nan"), "share = nan: must be above 0 and at most 1: none is the default"),
        ("rate", 0.4, "rate = 0.4: must be 0 (off), or at least 0.5 and at most 2"),
        ("way", "nowhere", "way = 'nowhere': must be one of here, there"),
        ("is_on", 1, "is_on = 1: must be True or False, not int"),
        ("name", "", "name = '': must have a length of at least 1"),
        ("ids", 5, "ids = 5: must be a tuple of whole numbers; write (5,)"),
        ("ids", (3, -1), "ids = (3, -1): -1 must be at least 0"),
        ("names", "all", "names = 'all': must be a tuple of strings; write ('all',)"),
        ("names", (), "names = (): must have a length of at least 1"),
    ],
)
def test_refused_values_are_named_with_what_is_accepted(
    field: str, value: Any, message: str
) -> None:
    with pytest.raises(ValueError) as error:
        Record(**{field: value})
    assert str(error.value) == message
