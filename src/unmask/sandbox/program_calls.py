"""One call of a program's function as text: the record that is sent, and the value of the answer.

The same text is exchanged with a sandbox on this machine (`sandbox.process`) and with a service
(`sandbox.remote`). An answer carries the random number of its call; an answer without it is a breach
of the protocol, which ends the program.
"""

import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn, Protocol

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


class CalledSandbox(Protocol):
    """The part of a sandbox that `call_program` uses; see `process.Sandbox`."""

    failure: Failure | None
    breach: bool
    raised: Exception | None
    keeps_objects: bool
    has_answered: bool

    def ask(self, question: dict[str, Any]) -> bytes: ...  # noqa: D102

    def fail(self, failure: Failure) -> NoReturn: ...  # noqa: D102


def call_program(
    sandbox: CalledSandbox, target: str | None, args: Sequence[object], kwargs: Mapping[str, object]
) -> Any:
    """Call a function of the program in a sandbox and return its result; see `process.Sandbox.call`."""

    def call(target: str, *args: object, **kwargs: object) -> Any:
        return call_program(sandbox, target, args, kwargs)

    def object_at(number: int) -> ProgramObject:
        return ProgramObject(call, number) if sandbox.keeps_objects else refuse(number)

    if sandbox.failure:
        raise ProgramFailedError(sandbox.failure)
    try:
        question = packed_call(target, args, kwargs, sandbox.has_answered)
        value = value_of_answer(sandbox.ask(question), question["number"], object_at)
    except (ForeignValueError, UnfitTestError, ServiceFailedError) as error:
        sandbox.breach |= isinstance(error, ForeignValueError)
        raise
    except Exception as error:
        sandbox.raised = error
        raise
    except ProgramFailedError:
        sandbox.fail("crash")
    sandbox.has_answered = target is not None
    return value


def packed_call(
    target: str | None, args: Sequence[object], kwargs: Mapping[str, object], has_answered: bool
) -> dict[str, Any]:
    """Return the record of a call, with a new random `number`.

    Args:
        target: as `Sandbox.call` names it.
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
