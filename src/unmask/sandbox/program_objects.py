"""Stand-ins in a test for objects of the program's own classes.

A data set's test may build its case from the program's classes: `a.next = Link(2)`. Such an object never
leaves the sandbox; the test has a number for it. Reading, setting or calling an attribute is a call of
the program, whose result is a literal or another number. A number equals itself only, so an `__eq__`
that always returns True has no effect.
"""

from collections.abc import Callable
from typing import Any


class ProgramObject:
    """Stands in a test for an object of the program; equal to stand-ins for the same object only."""

    __slots__ = ("_call", "_number")

    def __init__(self, call: Callable[..., Any], number: int) -> None:
        """Stand for an object.

        Args:
            call: calls the program, as `Sandbox.call`.
            number: of the object, chosen by the program's process.
        """
        object.__setattr__(self, "_call", call)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        return self._call(f".{name}", self)

    def __setattr__(self, name: str, value: Any) -> None:
        self._call(f".{name}=", self, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the object inside the sandbox."""
        return self._call("()", self, *args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return type(other) is ProgramObject and other._number == self._number

    def __hash__(self) -> int:
        return hash(self._number)


def number_of(value: Any) -> int:
    """Return the number of a stand-in for an object of the program.

    Raises:
        TypeError: the value is something else; the message is the name of its type.
    """
    if type(value) is not ProgramObject:
        raise TypeError(type(value).__name__)
    return value._number  # pyright: ignore[reportPrivateUsage]
