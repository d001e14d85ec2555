"""Objects of a program's own classes, as a test holds them.

A published test may build its case of the program's classes: `a.next = Link(2)`. Such an object never
leaves the sandbox. The test holds a number for it: to read, set or call something of the object asks
the program, and what comes back is a literal or another number. A number equals itself alone, so a
class whose `__eq__` says yes to everything gains nothing.
"""

from collections.abc import Callable
from typing import Any


class ProgramObject:
    """Stands in a test for an object of the program; equal to what stands for the same object only."""

    __slots__ = ("_call", "_number")

    def __init__(self, call: Callable[..., Any], number: int) -> None:
        """Stand for an object.

        Args:
            call: asks the program (`Sandbox.call`).
            number: the one it gave the object.
        """
        object.__setattr__(self, "_call", call)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        return self._call(f".{name}", self)

    def __setattr__(self, name: str, value: Any) -> None:
        self._call(f".{name}=", self, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it inside."""
        return self._call("()", self, *args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return type(other) is ProgramObject and other._number == self._number

    def __hash__(self) -> int:
        return hash(self._number)


def number_of(value: Any) -> int:
    """Return the number of an object of the program.

    Raises:
        TypeError: it is something else; the message is its type's name.
    """
    if type(value) is not ProgramObject:
        raise TypeError(type(value).__name__)
    return value._number  # pyright: ignore[reportPrivateUsage]
