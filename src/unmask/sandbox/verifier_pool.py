"""Verifiers of other packages, run in worker processes that can be killed.

A verifier is foreign code that reads text a model wrote: it may loop, fill the memory or end its
process, so it never runs in the training process. A worker starts once, imports its verifier, reports
that it is ready, and then grades chunks of items; the import counts for no item. It answers item by
item and starts the next one at once, so the parent starts an item's clock when it reads the previous
answer, never before the item itself started. A worker whose item exceeds its limit is killed and
replaced, and another one grades the items behind that one.

Three outcomes are kept apart. A wrong answer is a score. An item that used up its processor time, or
ended its worker, is a `Verdict` with that error, which callers count. A verifier that cannot run at all
(a missing import, an exception that it does not catch) raises an error from `grade`: a reward of zero
would be trained on.

Processor time decides whether an item is late, so a verdict does not depend on the machine's load. A
much longer limit by the clock catches an item that gets no processor time, because the machine is
overloaded or the verifier waits for something. Such an item is tried again, and then `grade` raises.

Where the machine allows namespaces, a worker is isolated like a program: it sees Python and the
packages, read-only, but no network, no home and no environment variables of this process. Elsewhere
only time and memory are limited; a verifier that executes answers is therefore also protected by an
alphabet (`rewards.reasoning_gym`).
"""

import json
import math
import os
import resource
import signal
import sys
import time
import traceback
import weakref
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal

from unmask.sandbox.child import Child
from unmask.sandbox.command import ENVIRONMENT, TMP, Bind, interpreter, isolated, python_command
from unmask.sandbox.guest.supervisor import forbid_inspection
from unmask.sandbox.isolation import best_backend
from unmask.types import Score

CHUNK = 64
START_LIMIT_S = 600.0
MEMORY_LIMIT_BYTES = 4 * 2**30
# Seconds by the clock for each second of processor time.
PATIENCE = 30.0
# How often an item may meet the limit by the clock.
TRIES = 3
TMP_BYTES = 64 * 2**20
# A signal ends the worker at each of the two limits; a launcher reports a signal as 128 + its number.
LATE, STARVED = ({-n, 128 + n} for n in (signal.SIGPROF, signal.SIGALRM))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The grading result of one item.

    Attributes:
        score: finite; 0 with an error.
        error: why there is no score; `unfit` if the item itself is faulty, whatever the answer.
        reason: why the item is unfit.
    """

    score: float
    error: Literal["timeout", "crash", "unfit"] | None = None
    reason: str = ""


def score_from_verdict(verdict: Verdict, exact: bool) -> Score:
    """Return the reward of a verdict; its parts count the items that could not be graded.

    Args:
        verdict: of the worker.
        exact: whether only a full score earns a reward.
    """
    reward = float(verdict.score == 1.0) if exact else verdict.score
    parts = {
        "graded": verdict.score,
        "verifier_timeout": float(verdict.error == "timeout"),
        "verifier_crash": float(verdict.error == "crash"),
    }
    return Score(reward, parts)


class VerifierPool:
    """Worker processes that grade items, started by the first call and kept until `close`."""

    def __init__(
        self,
        factory: str,
        args: Mapping[str, Any],
        workers: int = 1,
        time_limit_s: float = 5.0,
        *,
        wall_limit_s: float | None = None,
        is_isolated: bool = True,
    ) -> None:
        """Describe the workers; none is started yet.

        Args:
            factory: `module:function`; each worker calls `function(**args)` once, which returns the
                verifier: a function from an item to a finite score or to a `Verdict`.
            args: its arguments, JSON values.
            workers: number of processes.
            time_limit_s: processor time for one item, in seconds.
            wall_limit_s: time for one item by the clock, after which it is tried again; `PATIENCE` times
                `time_limit_s` if not given.
            is_isolated: whether the workers are isolated as far as this machine allows.
        """
        wall_limit_s = PATIENCE * time_limit_s if wall_limit_s is None else wall_limit_s
        self._is_isolated = is_isolated
        self._setup = {
            # The child finds modules as this process does, also where the path was changed at run time.
            # Symbolic links are resolved: their targets are not visible under isolation.
            "path": [str(Path(path).resolve()) for path in sys.path if path],
            "factory": factory,
            "args": args,
            "time_limit_s": time_limit_s,
            "wall_limit_s": wall_limit_s,
        }
        self._factory, self._wall_limit_s = factory, wall_limit_s
        self._num_workers = workers
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _stop_all, self._workers)

    def __enter__(self) -> "VerifierPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the workers; a later `grade` starts new ones."""
        _stop_all(self._workers)

    def grade(self, items: Sequence[Any]) -> list[Verdict]:
        """Grade items, each a JSON value, and return the verdicts in the order of the items.

        Raises:
            RuntimeError: the verifier itself cannot run; the message holds its traceback.
            ConnectionError: raised by the verifier: a service that it uses fails.
            TimeoutError: an item gets no processor time.
        """
        call = _Call(items, deque(range(len(items))))
        try:
            while len(call.verdicts) < len(items):
                self._hand_out(call)
                for worker in self._await():
                    self._collect(worker, call)
        except BaseException:
            # Answers to this call may still arrive; the next call must not read them.
            self.close()
            raise
        return [call.verdicts[index] for index in range(len(items))]

    def _hand_out(self, call: "_Call") -> None:
        """Replace workers that ended, and give each idle one a chunk of the pending items."""
        # A worker that ended before it was ready is reported by `_replace`.
        idle = [worker for worker in self._workers if worker.is_ready and not worker.given]
        for worker in [worker for worker in idle if worker.child.process.poll() is not None]:
            self._drop(worker)
        while len(self._workers) < self._num_workers:
            self._workers.append(_started(self._setup, self._is_isolated))
        pending = call.pending
        size = min(CHUNK, math.ceil(len(pending) / self._num_workers))
        for worker in self._workers:
            if worker.is_ready and not worker.given and pending:
                worker.given.extend(pending.popleft() for _ in range(min(size, len(pending))))
                worker.child.wait_at_most(self._wall_limit_s)
                # A worker that has just ended is found when its answers are read.
                with suppress(OSError):
                    worker.child.send([call.items[index] for index in worker.given])

    def _await(self) -> list["_Worker"]:
        """Wait until a worker has sent something or its time is over."""
        busy = [worker for worker in self._workers if worker.given or not worker.is_ready]
        seconds = min(worker.child.seconds_left() for worker in busy)
        ready = wait([worker.child.channel for worker in busy], seconds)
        now = time.monotonic()
        return [w for w in busy if w.child.channel in ready or w.child.deadline < now]

    def _collect(self, worker: "_Worker", call: "_Call") -> None:
        """Take the verdicts that a worker has sent; replace it if it is late or has ended."""
        # Late means that nothing has arrived: `receive` still takes an answer that waits in the socket.
        try:
            lines = worker.child.receive()
        except (EOFError, TimeoutError) as error:
            return self._replace(worker, isinstance(error, TimeoutError), call)
        for message in map(json.loads, lines):
            if isinstance(message, dict):
                if message["is_connection"]:
                    raise ConnectionError(message["error"])
                raise RuntimeError(f"verifier {self._factory} cannot run:\n{message['error']}")
            if worker.is_ready:
                call.verdicts[worker.given.popleft()] = Verdict(*message)
            worker.is_ready = True
            worker.child.wait_at_most(self._wall_limit_s)
        return None

    def _replace(self, worker: "_Worker", is_late: bool, call: "_Call") -> None:
        """Drop a worker, record why its current item has no score, and return the others to the queue."""
        self._drop(worker)
        status = worker.child.process.returncode
        if not worker.is_ready:
            raise RuntimeError(
                f"verifier worker for {self._factory} "
                f"{'hung' if is_late else f'ended with status {status}'} while it started; "
                "see its output on standard error"
            )
        if worker.given and (is_late or status in STARVED):
            self._count_try(worker.given[0], call)
        elif worker.given:
            error = "timeout" if status in LATE else "crash"
            call.verdicts[worker.given.popleft()] = Verdict(0.0, error)
        call.pending.extendleft(reversed(worker.given))

    def _count_try(self, index: int, call: "_Call") -> None:
        call.tries[index] += 1
        if call.tries[index] == TRIES:
            raise TimeoutError(
                f"verifier {self._factory}: an item met the limit of {self._wall_limit_s:g} s by the "
                f"clock {TRIES} times without using up its processor time, so there is no verdict on it: "
                "the machine is overloaded, or the verifier waits for something; lower the load or the "
                f"number of workers. It begins {str(call.items[index])[:200]!r}"
            )

    def _drop(self, worker: "_Worker") -> None:
        self._workers.remove(worker)
        _stop_all([worker])


@dataclass(frozen=True, slots=True)
class _Call:
    """The items of one call, the indices that no worker has, the verdicts, and the tries of each item."""

    items: Sequence[Any]
    pending: deque[int]
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    tries: Counter[int] = field(default_factory=Counter)


@dataclass(eq=False, slots=True)
class _Worker:
    """A process, and the indices of the items that it has been given; it is grading the first one."""

    child: Child
    is_ready: bool = False
    given: deque[int] = field(default_factory=deque)


def _started(setup: Mapping[str, Any], is_isolated: bool) -> _Worker:
    """Start a worker, isolated by the strongest backend of this machine if it is to be isolated."""
    python = interpreter()
    command = python_command(python, __name__, setup)
    if is_isolated:
        # The machine's own /tmp, bound inside, would hide the empty one.
        packages = [Bind(Path(path), Path(path)) for path in setup["path"] if Path(path) != TMP]
        binds = [*python.binds, *packages]
        command = isolated(best_backend(), command, binds, TMP_BYTES, may_change_user=False)
    # Whatever it prints goes to standard error.
    worker = _Worker(Child(command, stdout=2, env=ENVIRONMENT))
    worker.child.wait_at_most(START_LIMIT_S)
    return worker


def _stop_all(workers: list[_Worker]) -> None:
    while workers:
        child = workers.pop().child
        child.kill()
        child.channel.close()


def main(setup: Mapping[str, Any]) -> None:
    """Grade chunks of items from standard input, a socket, until it closes: the life of a worker.

    Args:
        setup: `factory` (`module:function` that makes the verifier), its `args`, and the limits of an
            item: `time_limit_s` of processor time, and `wall_limit_s` by the clock, which the parent
            enforces.
    """
    questions, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(0), "w")

    def send(message: object) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        # macOS refuses this limit; there only the time limit holds.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
        # A program of the same user must neither read the tests in this memory nor write verdicts.
        forbid_inspection()
        module, _, name = setup["factory"].partition(":")
        verify: Callable[[Any], float | Verdict]
        verify = getattr(import_module(module), name)(**setup["args"])
        sink = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(sink, stream)
        send("ready")
        for line in questions:
            for item in json.loads(line):
                # The kernel ends a late item, even one that holds the GIL or has lost its parent.
                signal.setitimer(signal.ITIMER_PROF, setup["time_limit_s"])
                signal.setitimer(signal.ITIMER_REAL, setup["wall_limit_s"] + 1)
                found = verify(item)
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.setitimer(signal.ITIMER_REAL, 0)
                verdict = found if isinstance(found, Verdict) else Verdict(float(found))
                if not math.isfinite(verdict.score):
                    raise ValueError(f"the verifier returned {verdict.score} for {item!r}")
                send([verdict.score, verdict.error, verdict.reason])
    except BrokenPipeError:
        pass
    except ConnectionError as error:  # of a service that the verifier uses
        send({"error": str(error), "is_connection": True})
    except Exception:
        send({"error": traceback.format_exc(), "is_connection": False})
