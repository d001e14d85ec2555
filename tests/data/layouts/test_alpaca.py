"""Alpaca's instruction, input and output."""

from unmask.data.examples import example_of
from unmask.types import Message


def test_the_input_stands_on_the_line_after_the_instruction() -> None:
    record = {"instruction": "Add.", "input": "1 1", "output": "2", "system": "short"}
    assert example_of(record, "alpaca").messages == (
        Message("system", "short"),
        Message("user", "Add.\n1 1"),
        Message("assistant", "2"),
    )


def test_an_empty_input_adds_nothing() -> None:
    for empty in ({}, {"input": ""}, {"input": None}):
        found = example_of({"instruction": "Add.", "output": "2", **empty}, "alpaca")
        assert [m.content for m in found.messages] == ["Add.", "2"]
        assert found.kind == "pair"
