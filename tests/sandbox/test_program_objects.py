"""Objects of the program in a test: their use, and their attempts to equal other values."""

from typing import Any

import pytest

from unmask.sandbox.program_objects import ProgramObject, number_of


class Asked:
    """Stands for a sandbox: writes down what it is asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        self.calls.append((*args, kwargs))
        return "answer"


def test_everything_that_is_read_set_or_called_is_asked_of_the_program():
    asked = Asked()
    thing = ProgramObject(asked, 3)
    assert thing.value == "answer"
    thing.next = None
    assert thing(1, key=2) == "answer"
    assert asked.calls == [
        (".value", thing, {}),
        (".next=", thing, None, {}),
        ("()", thing, 1, {"key": 2}),
    ]


def test_a_stand_in_equals_only_those_of_the_same_object():
    asked = Asked()
    thing = ProgramObject(asked, 3)
    assert thing == ProgramObject(asked, 3)
    assert len({thing, ProgramObject(asked, 3), ProgramObject(asked, 4)}) == 2
    assert all(thing != other for other in (3, None, True, [], ProgramObject(asked, 4)))
    assert asked.calls == []
    for wrong in (lambda: thing < 3, lambda: len(thing), lambda: list(thing), lambda: thing + 1):
        with pytest.raises(TypeError):
            wrong()


def test_the_number_of_an_object_crosses():
    assert number_of(ProgramObject(Asked(), 3)) == 3
    with pytest.raises(TypeError, match="object"):
        number_of(object())
