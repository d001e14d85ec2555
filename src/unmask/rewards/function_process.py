"""A reward function in a process of its own, which is ended where a call takes too long.

The process has the environment of this one and its network, because the function is the user's own code. What it
prints goes to standard error. It starts when it is built, so that a wrong function stops a run before its first
step, and again after a call was too late. Nothing is pickled: arguments and results cross as JSON.
"""

import json
import sys
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.sandbox.child import Child
from unmask.sandbox.command import interpreter, python_command

START_LIMIT_S = 600.0
# Concurrent calls end by themselves; one that keeps the others from running is found this much later.
SLACK_S = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a call: `value`, or none where it took longer than the limit."""

    value: Any = None
    is_late: bool = False


class FunctionProcess:
    """Calls `module:function` in a process of its own."""

    def __init__(
        self, path: str, stated: str, given: Sequence[str], is_whole: bool, time_limit_s: float
    ) -> None:
        """Start the process, import the function and check its arguments.

        Args:
            path: `module:function`, found as in this process, in the working directory last.
            stated: config key and path, for messages.
            given: names of the arguments that every call has.
            is_whole: whether calls have no others.
            time_limit_s: most seconds of a call, by the clock.

        Raises:
            ValueError: there is no such function, or it takes other arguments.
        """
        self._stated, self._limit_s, self._is_async = stated, time_limit_s, False
        self._setup = {
            "path": [str(Path(path).resolve()) for path in sys.path],
            "function": path,
            "stated": stated,
            "given": list(given),
            "is_whole": is_whole,
            "time_limit_s": time_limit_s,
        }
        self._children: list[Child] = []
        self._finalizer = weakref.finalize(self, _stop, self._children)
        self._started()

    def close(self) -> None:
        """End the process; a later call starts it again."""
        _stop(self._children)

    def run(self, calls: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Result]:
        """Return the results of calls, in their order.

        Args:
            calls: the arguments of each by name, JSON values.
            names: what each is about, for messages.

        Raises:
            ValueError: a call raised an exception, its process ended, or concurrent calls blocked each other.
        """
        results: dict[int, Result] = {}
        try:
            while left := [index for index in range(len(calls)) if index not in results]:
                self._ask(calls, left, results, names)
        except BaseException:
            # Answers to these calls may still arrive; the next ones must not be taken for them.
            self.close()
            raise
        return [results[index] for index in range(len(calls))]

    def _ask(
        self,
        calls: Sequence[Mapping[str, Any]],
        left: Sequence[int],
        results: dict[int, Result],
        names: Sequence[str],
    ) -> None:
        """Add the results of the calls `left`, or of those up to one that is late."""
        child = self._started()
        child.wait_at_most(START_LIMIT_S)
        with suppress(OSError):  # it has ended, which `receive` finds
            child.send([calls[index] for index in left])
        while len(results) < len(calls):
            current = next(index for index in left if index not in results)
            child.wait_at_most(self._limit_s + (SLACK_S if self._is_async else 0))
            try:
                lines = child.receive()
            except EOFError:
                raise ValueError(
                    f"{self._stated}: its process ended with status {child.kill()} in the call for "
                    f"{names[current]}; see its output on standard error"
                ) from None
            except TimeoutError:
                self.close()
                if self._is_async:
                    raise ValueError(
                        f"{self._stated} is an async function, but a call blocked the others for more than "
                        f"{self._limit_s:g} s: await, or make it a plain function"
                    ) from None
                results[current] = Result(is_late=True)
                return
            for message in map(json.loads, lines):
                index = left[message["index"]]
                if "error" in message:
                    raise ValueError(f"{self._stated} {message['error']} for {names[index]}")
                results[index] = Result(message.get("value"), message.get("is_late", False))

    def _started(self) -> Child:
        """Return the process, started and ready."""
        if self._children:
            return self._children[0]
        command = python_command(interpreter(), "unmask.rewards.function_worker", self._setup)
        child = Child(command, stdout=2)
        self._children.append(child)
        child.wait_at_most(START_LIMIT_S)
        try:
            (line,) = child.receive()
        except (EOFError, TimeoutError):
            self.close()
            raise ValueError(
                f"{self._stated}: its process ended or hung while it imported the module; see its output on "
                "standard error"
            ) from None
        message = json.loads(line)
        if "error" in message:
            self.close()
            raise ValueError(message["error"])
        self._is_async = message["is_async"]
        return child


def _stop(children: list[Child]) -> None:
    while children:
        child = children.pop()
        child.kill()
        child.channel.close()
