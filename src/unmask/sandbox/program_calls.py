"""One call of a program's function as text: the question that a test asks, and the value of the answer.

The same text is exchanged with a sandbox on this machine (`sandbox.process`) and with a service
(`sandbox.remote`). An answer carries the random number of its call; what does not is a breach of
the protocol, which ends the program.
"""

import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unmask.sandbox.guest.literals import MAX_DEPTH, pack, parse_line, unpack
from unmask.sandbox.limits import (
    ForeignValueError,
    ProgramFailedError,
    UnfitTestError,
    exception_from_name,
)
from unmask.sandbox.program_objects import number_of


def packed_call(
    target: str | None, args: Sequence[object], kwargs: Mapping[str, object], has_answered: bool
) -> dict[str, Any]:
    """Return the record of a call, with a random `number` of its own.

    Args:
        target: as `Sandbox.call` names it.
        args: literals and objects of the program.
        kwargs: the same.
        has_answered: whether the program has returned something, which the test may hand back.

    Raises:
        UnfitTestError: an argument cannot cross.
        ForeignValueError: the same, where it may hold what the program returned.
    """
    try:
        # Twice as deep as a result, so that a test may hand a result back.
        packed = [pack(part, -MAX_DEPTH, number_of) for part in (list(args), dict(kwargs))]
    except (TypeError, ValueError) as error:
        if has_answered and isinstance(error, ValueError):
            raise ForeignValueError(f"a result that was handed back: {error}") from error
        raise UnfitTestError(
            f"a test gives {target} an argument that cannot cross: {error}"
        ) from error
    number = secrets.token_hex(8)
    return {"number": number, "target": target, "args": packed[0], "kwargs": packed[1]}


def value_of_answer(line: bytes, number: str, object_at: Callable[[int], Any]) -> Any:
    """Return the value that an answer holds.

    Args:
        line: the answer.
        number: of the call.
        object_at: returns what stands for an object of the program.

    Raises:
        Exception: what the program raised.
        ForeignValueError: its result is no literal.
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
