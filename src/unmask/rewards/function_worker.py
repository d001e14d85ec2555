"""The process of a reward function in the form of another library.

Standard input is a socket for both directions, with a line of JSON for each message. The process first imports
the function and checks its arguments, and reports that it is ready. Then each line is a list of calls, each the
arguments by name. Every call has one answer, `{"index": its place, ...}` with `value`, `is_late` or `error`. Calls
of an `async def` function run concurrently, each with the time limit; others run one after the other, and the
parent ends the process if one takes too long.
"""

import asyncio
import inspect
import json
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any

from unmask.configs.import_path import import_object

Send = Callable[[Mapping[str, Any]], None]


def argument_problem(
    signature: inspect.Signature, given: Sequence[str], is_whole: bool, passed: str
) -> str:
    """Return why a function cannot be called with arguments of these names; empty if it can.

    Args:
        signature: of the function.
        given: names of the arguments.
        is_whole: whether these are all of them.
        passed: where they come from, for the message.
    """
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    takes_all = inspect.Parameter.VAR_KEYWORD in kinds.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    taken = [name for name, kind in kinds.items() if kind in named]
    if not takes_all and (extra := [name for name in given if name not in taken]):
        return f"it takes no {extra[0]}, {passed}: add that parameter or **kwargs"
    needed = [n for n in taken if signature.parameters[n].default is inspect.Parameter.empty]
    missing = [name for name in needed if name not in given]
    if is_whole and missing:
        return f"it needs {missing[0]}, and there are {', '.join(given)} only"
    return ""


def plain(value: Any) -> Any:
    """Return a result as JSON: numbers of arrays and tensors too, and of a table its numbers alone."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, Mapping):
        numbers = {str(name): plain(one) for name, one in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        return {name: one for name, one in numbers.items() if isinstance(one, int | float)}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, Real):  # numbers that are neither int nor float too
        return value if isinstance(value, bool | int) else float(value)
    return value if value is None or isinstance(value, str) else repr(value)


def _failure(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"raised {' '.join(repr(error).split())} at {frame.filename}:{frame.lineno}"


def _checked(function: Callable[..., Any], named: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # written in C, without a signature
        return
    if problem := argument_problem(signature, list(named), True, "which is a column"):
        raise TypeError(problem)


def _answer(function: Callable[..., Any], index: int, named: Mapping[str, Any], send: Send) -> None:
    try:
        _checked(function, named)
        value = plain(function(**named))
    except Exception as error:  # the user's code may raise anything
        send({"index": index, "error": _failure(error)})
    else:
        send({"index": index, "value": value})


async def _answer_all(
    function: Callable[..., Any], calls: Sequence[Mapping[str, Any]], seconds: float, send: Send
) -> None:
    async def answer(index: int, named: Mapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(seconds) as limit:
                _checked(function, named)
                value = plain(await function(**named))
        except Exception as error:  # also the TimeoutError of a service, before the limit
            late: dict[str, Any] = {"is_late": True} if limit.expired() else {}  # pyright: ignore[reportPossiblyUnboundVariable]
            send({"index": index, **(late or {"error": _failure(error)})})
        else:
            send({"index": index, "value": value})

    await asyncio.gather(*(answer(index, named) for index, named in enumerate(calls)))


def load(path: str, stated: str, given: Sequence[str], is_whole: bool) -> Callable[..., Any]:
    """Import a function and check that it can be called.

    Args:
        path: `module:function`.
        stated: key and path, for messages.
        given: names of the arguments that every call has.
        is_whole: whether calls have no others.

    Raises:
        ValueError: there is no such function, or it takes other arguments.
    """
    function = import_object(path, stated, "function")
    if not callable(function):
        raise ValueError(f"{stated}: it is no function")
    try:
        signature = inspect.signature(function)
    except ValueError:  # written in C, without a signature
        return function
    if problem := argument_problem(signature, given, is_whole, "which every call has"):
        raise ValueError(f"{stated}: {problem}")
    return function


def main(setup: Mapping[str, Any]) -> None:
    """Answer calls until the socket closes: the life of the process.

    Args:
        setup: arguments of `load`, and `time_limit_s` of a call of an `async def` function.
    """
    questions, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(0), "w")

    def send(message: Mapping[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    # The user's code gets no end of the socket.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        function = load(*(setup[name] for name in ("function", "stated", "given", "is_whole")))
    except ValueError as error:
        send({"error": str(error)})
        return
    except Exception as error:  # of the user's module
        send({"error": f"{setup['stated']}: importing it {_failure(error)}"})
        return
    caller = getattr(function, "__call__", None)  # noqa: B004 - that of an object may be `async def`
    is_async = any(map(inspect.iscoroutinefunction, (function, caller)))
    send({"is_async": is_async})
    for line in questions:
        calls: list[Mapping[str, Any]] = json.loads(line)
        if is_async:
            asyncio.run(_answer_all(function, calls, setup["time_limit_s"], send))
            continue
        for answer in [partial(_answer, function, *one, send) for one in enumerate(calls)]:
            answer()
