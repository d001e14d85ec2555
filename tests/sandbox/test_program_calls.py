"""Calls as text: arguments that a test may pass, and answers that count."""

import json

import pytest

from unmask.sandbox.guest.literals import pack, refuse
from unmask.sandbox.limits import ForeignValueError, ProgramFailedError, UnfitTestError
from unmask.sandbox.program_calls import packed_call, value_of_answer


def answer(*parts: object) -> bytes:
    return json.dumps(parts).encode()


def test_every_call_has_a_number_of_its_own() -> None:
    first, second = (packed_call("f", (1,), {"y": 2}, has_answered=False) for _ in range(2))
    assert first["number"] != second["number"]
    assert first | {"number": 0} == second | {"number": 0}


def test_an_argument_that_cannot_cross_is_the_tests_fault() -> None:
    with pytest.raises(UnfitTestError, match="passes f an argument that is no literal"):
        packed_call("f", (object(),), {}, has_answered=True)


def test_a_deep_argument_may_be_a_result_of_the_program() -> None:
    value: list[object] = []
    for _ in range(500):
        value = [value]
    with pytest.raises(UnfitTestError):
        packed_call("f", (value,), {}, has_answered=False)
    with pytest.raises(ForeignValueError):
        packed_call("f", (value,), {}, has_answered=True)


def test_answers() -> None:
    assert value_of_answer(answer("n", "value", pack((1, 2))), "n", refuse) == (1, 2)
    with pytest.raises(KeyError, match="gone"):
        value_of_answer(answer("n", "raise", "KeyError", "gone"), "n", refuse)
    with pytest.raises(ForeignValueError, match="Own"):
        value_of_answer(answer("n", "foreign", "Own"), "n", refuse)


@pytest.mark.parametrize(
    "line",
    [
        answer("other", "value", 1),
        answer("n", "value", ["no such tag", 1]),
        answer("n", "value"),
        b"",
        b"[" * 5000,
        b"1",
    ],
)
def test_any_other_line_than_an_answer_to_the_call_ends_the_program(line: bytes) -> None:
    with pytest.raises(ProgramFailedError):
        value_of_answer(line, "n", refuse)
