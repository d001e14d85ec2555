"""Fields of foreign records: texts and numbers are read, anything else is named with its place."""

from typing import Any

import pytest

from unmask.tasks.record import Record, record_from_json


def test_texts_and_numbers_are_texts() -> None:
    record = Record("f, line 1", {"a": " x ", "b": 3, "c": 0.5})
    assert [record.text(name) for name in "abc"] == [" x ", "3", "0.5"]


@pytest.mark.parametrize("value", [None, True, "", " \n", ["x"], {"x": 1}])
def test_anything_else_names_place_field_value_and_what_is_there(value: Any) -> None:
    with pytest.raises(ValueError) as caught:
        Record("f, line 7", {"a": value, "other": 1}).text("a")
    message = (
        f"f, line 7: 'a' must be a text or a number, found {value!r} (the record has: a, other)"
    )
    assert str(caught.value) == message


def test_a_huge_value_is_shown_by_its_beginning() -> None:
    assert len(str(Record("f", {"a": ["x" * 10_000]}).error("a", "must be short"))) < 400


def test_a_record_is_an_object() -> None:
    assert record_from_json("f", {"a": 1}) == Record("f", {"a": 1})
    with pytest.raises(ValueError, match="f, item 2: expected an object, found int"):
        record_from_json("f, item 2", 3)
