"""One call of a program's function as text: the record that is sent, and the value of the answer.

The same text is exchanged with a sandbox on this machine (`sandbox.process`) and with a service
(`sandbox.remote`). An answer carries the random number of its call; an answer without it is a breach
of the protocol, which ends the program.
"""

import contextlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn, Self

from unmask.sandbox.guest.literals import MAX_DEPTH, pack, parse_line, refuse, unpack
from unmask.sandbox.limits import (
    ForeignValueError,
    ProgramFailedError,
    UnfitTestError,
    exception_from_name,
)
from unmask.sandbox.program_objects import ProgramObject, number_of

Failure = Literal["timeout", "crash"]


class ServiceFailedError(ConnectionError):
    """The sandbox service failed; a `ConnectionError` may also be the program's own."""


class CalledProgram(ABC):
    """A program in a sandbox, on this machine or in a service, whose functions can be called.

    Attributes:
        failure: why the program answers no more; None while it does.
        breach: whether a result was no literal, which fails the test even if the test catches it.
        raised: the exception that stands for the last one of the program.
        keeps_objects: whether a result may be an object that stays inside (`ProgramObject`).
        has_answered: whether the last call returned a value.
    """

    failure: Failure | None = None
    breach = False
    raised: Exception | None = None
    keeps_objects = False
    has_answered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """End the program and remove its files; further calls are refused."""

    @abstractmethod
    def finish(self) -> None:
        """End the program, and set `failure` if its processes together exceeded a limit."""

    @abstractmethod
    def ask(self, question: dict[str, Any]) -> bytes:
        """Send the record of a call and return the line of the answer."""

    def fail(self, failure: Failure) -> NoReturn:
        """End the program and record why, unless an earlier reason is known."""
        self.failure = self.failure or failure
        self.finish()
        raise ProgramFailedError(self.failure)

    def call(self, target: str | None, *args: object, **kwargs: object) -> Any:
        """Call a function of the program and return its result.

        Args:
            target: `f`, or `Solution().f` for a method of a fresh object; see `guest.main.find`.
            *args: literals, passed by value (the program's changes to them are not visible here), and
                objects of the program.
            **kwargs: the same.

        Raises:
            Exception: raised by the program, if it is one of Python's own exceptions.
            ProgramRaisedError: the program raised another one, or its result is no literal.
            ProgramFailedError: it has ended or broken the protocol.
            ConnectionError: the service that runs it fails.
        """

        def object_at(number: int) -> ProgramObject:
            return ProgramObject(self.call, number) if self.keeps_objects else refuse(number)

        if self.failure:
            raise ProgramFailedError(self.failure)
        try:
            question = packed_call(target, args, kwargs, self.has_answered)
            value = value_of_answer(self.ask(question), question["number"], object_at)
        except (ForeignValueError, UnfitTestError, ServiceFailedError) as error:
            self.breach |= isinstance(error, ForeignValueError)
            raise
        except Exception as error:
            self.raised = error
            raise
        except ProgramFailedError:  # the answer broke the protocol
            self.fail("crash")
        self.has_answered = target is not None  # loading returns no value
        return value


def packed_call(
    target: str | None, args: Sequence[object], kwargs: Mapping[str, object], has_answered: bool
) -> dict[str, Any]:
    """Return the record of a call, with a new random `number`.

    Args:
        target: as `CalledProgram.call` names it.
        args: literals and objects of the program.
        kwargs: the same.
        has_answered: whether the program has returned a value, which the test may pass back to it.

    Raises:
        UnfitTestError: an argument is no literal.
        ForeignValueError: an argument is no literal, and may hold a value that the program returned.
    """
    try:
        # Twice as deep as a result, so that a test may pass a result back.
        packed = [pack(part, -MAX_DEPTH, number_of) for part in (list(args), dict(kwargs))]
    except (TypeError, ValueError) as error:
        if has_answered and isinstance(error, ValueError):
            raise ForeignValueError(f"a result that was passed back: {error}") from error
        raise UnfitTestError(
            f"a test passes {target} an argument that is no literal: {error}"
        ) from error
    number = secrets.token_hex(8)
    return {"number": number, "target": target, "args": packed[0], "kwargs": packed[1]}


def value_of_answer(line: bytes, number: str, object_at: Callable[[int], Any]) -> Any:
    """Return the value of an answer.

    Args:
        line: the answer.
        number: of the call.
        object_at: returns the stand-in for an object of the program.

    Raises:
        Exception: raised by the program.
        ForeignValueError: the result is no literal.
        ProgramFailedError: the line is no answer to this call.
    """
    match parse_line(line):
        case [given, "value", packed] if given == number:
            with contextlib.suppress(ValueError):
                return unpack(packed, object_at=object_at)
        case [given, "raise", str(name), str(message)] if given == number:
            raise exception_from_name(name, message)
        case [given, "foreign", str(name)] if given == number:
            raise ForeignValueError(f"the result is of type {name[:100]!r}, which is no literal")
        case _:
            pass
    raise ProgramFailedError("crash")
