"""Verifiers of other packages, run in worker processes that may be killed.

A verifier is foreign code that reads text a model wrote: it can loop, fill the memory, or take the
process down. So it never runs in the process that trains. A worker is started once, imports its
verifier, says so, and then judges chunks of items; import time is on no item's clock. The worker
answers item by item and starts the next one at once, so the parent's clock for an item starts when
it has read the previous answer: never before the item itself started, whatever else the machine
does. A worker whose item runs over its limit is killed and replaced, and the items behind that one
are judged by another.

Three outcomes are kept apart. A bad answer is a score. An item that used up its processor time or
took its worker down is a `Verdict` with that error, so that callers can count it. A verifier that
cannot run at all (a missing import, an exception it lets through) is no verdict: `judge` raises,
because a reward of zero would train on it.

Processor time decides what is late, so a verdict does not depend on what else the machine does. Far
behind it stands a limit by the clock, which is no verdict: an item that meets it has not had its
processor time, because the machine is overloaded or the verifier waits for something. It is tried
again, and where that does not help, `judge` raises.

Parent and worker speak JSON over pipes: nothing is pickled, and a worker ends when its pipe closes,
hence also when the parent is killed. Where the machine gives namespaces, a worker stands behind the
walls of the sandbox: it sees Python and the packages, read-only, and no network, no home and none of
our environment. Where it gives none, only time and memory are bounded, so a verifier that executes
an answer is shielded by an alphabet as well (`rewards.reasoning_gym`).
"""

import contextlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
import weakref
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Any, Literal

from unmask.sandbox.command import (
    ENVIRONMENT,
    TMP,
    Bind,
    interpreter,
    python_command,
    walled,
)
from unmask.sandbox.guest.supervisor import forbid_inspection
from unmask.sandbox.isolation import best_walls
from unmask.types import Score

CHUNK = 64
START_LIMIT_S = 600.0
MEMORY_LIMIT_BYTES = 4 * 2**30
# The child finds its modules as the parent does, also where the parent's path was changed at run time.
BOOT = (
    "import json, sys; setup = json.loads(sys.argv[1]); sys.path[:] = setup.pop('path');"
    "from unmask.sandbox.verifier_pool import serve; serve(**setup)"
)
# Seconds by the clock for each second of processor time.
PATIENCE = 30.0
# Times an item may meet the limit by the clock.
TRIES = 3
TMP_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one item: its score, or 0 and why there is none.

    Attributes:
        score: finite.
        error: `unfit` where the fault is the item's own, so that no answer to it could be judged.
        reason: of an item that is unfit.
    """

    score: float
    error: Literal["timeout", "crash", "unfit"] | None = None
    reason: str = ""


def score_from_verdict(verdict: Verdict, exact: bool) -> Score:
    """Turn a verdict into a reward, and count in its parts the items that were never judged.

    Args:
        verdict: what the worker said.
        exact: whether only a full score earns anything.
    """
    reward = float(verdict.score == 1.0) if exact else verdict.score
    parts = {
        "graded": verdict.score,
        "verifier_timeout": float(verdict.error == "timeout"),
        "verifier_crash": float(verdict.error == "crash"),
    }
    return Score(reward, parts)


class VerifierPool:
    """Worker processes that judge items, started at the first call and kept until `close`."""

    def __init__(
        self,
        factory: str,
        args: Mapping[str, Any],
        workers: int = 1,
        time_limit_s: float = 5.0,
        *,
        wall_limit_s: float | None = None,
        is_walled: bool = True,
    ) -> None:
        """Describe the workers; none is started yet.

        Args:
            factory: `module:function`; called once in every worker as `function(**args)`, it
                returns the verifier: a function from an item to a finite score, or to a `Verdict`.
            args: its arguments, JSON values.
            workers: how many processes.
            time_limit_s: seconds of processor time one item may take.
            wall_limit_s: seconds by the clock from its own start, after which it is tried again; many
                times that when not given.
            is_walled: whether the workers stand behind the walls this machine gives.
        """
        self._wall_limit_s = PATIENCE * time_limit_s if wall_limit_s is None else wall_limit_s
        self._is_walled = is_walled
        self._setup = {
            # Where links lead: what a link points to is not seen behind the walls.
            "path": [str(Path(path).resolve()) for path in sys.path if path],
            "factory": factory,
            "args": args,
            "time_limit_s": time_limit_s,
            "wall_limit_s": self._wall_limit_s,
        }
        self._factory = factory
        self._num_workers = workers
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _stop_all, self._workers)

    def __enter__(self) -> "VerifierPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """The process id of every worker, as it is seen from here."""
        return [worker.process.pid for worker in self._workers]

    def close(self) -> None:
        """Kill the workers; a later `judge` starts new ones."""
        _stop_all(self._workers)

    def judge(self, items: Sequence[Any]) -> list[Verdict]:
        """Judge items, each a JSON value; the verdicts come in the order of the items.

        Raises:
            RuntimeError: the verifier itself cannot run; the message holds its traceback.
            ConnectionError: the verifier raised it: a service that it stands on fails.
            TimeoutError: an item gets no processor time.
        """
        call = _Call(items, deque(range(len(items))))
        try:
            while len(call.verdicts) < len(items):
                self._hand_out(call)
                for worker in self._await():
                    self._collect(worker, call)
        except BaseException:
            # Answers to this call may still be on their way; the next call must not read them.
            self.close()
            raise
        return [call.verdicts[index] for index in range(len(items))]

    def _hand_out(self, call: "_Call") -> None:
        """Keep every worker alive and, while there are items, busy."""
        # One that ended before it was ready is `_bury`'s to report.
        idle = [worker for worker in self._workers if worker.is_ready and not worker.given]
        for worker in idle:
            if worker.process.poll() is not None:
                self._drop(worker)
        while len(self._workers) < self._num_workers:
            self._workers.append(_Worker(_command(self._setup, self._is_walled)))
        pending = call.pending
        size = min(CHUNK, math.ceil(len(pending) / self._num_workers))
        for worker in self._workers:
            if worker.is_ready and not worker.given and pending:
                chunk = [pending.popleft() for _ in range(min(size, len(pending)))]
                worker.give(chunk, [call.items[index] for index in chunk], self._wall_limit_s)

    def _await(self) -> list["_Worker"]:
        """Wait until a worker has something to say or has run out of time."""
        busy = [worker for worker in self._workers if worker.given or not worker.is_ready]
        patience = min(worker.deadline for worker in busy) - time.monotonic()
        heard = wait([worker.pipe for worker in busy], max(0.0, patience))
        return [
            worker for worker in busy if worker.pipe in heard or worker.deadline < time.monotonic()
        ]

    def _collect(self, worker: "_Worker", call: "_Call") -> None:
        """Take the verdicts a worker has ready; bury it if it is late or gone."""
        # Late means that nothing has arrived: an answer that lies in the pipe was in time.
        is_late = not wait([worker.pipe], 0)
        messages = [] if is_late else worker.read()
        for message in messages or []:
            if isinstance(message, dict):
                if message["is_connection"]:
                    raise ConnectionError(message["error"])
                raise RuntimeError(f"verifier {self._factory} cannot run:\n{message['error']}")
            if worker.is_ready:
                call.verdicts[worker.given.popleft()] = Verdict(*message)
            worker.is_ready = True
            worker.deadline = time.monotonic() + self._wall_limit_s
        if not messages:
            self._bury(worker, is_late, call)

    def _bury(self, worker: "_Worker", is_late: bool, call: "_Call") -> None:
        """Find out why a worker has no verdict on the item in its hands, and put the others back."""
        self._drop(worker)
        status = worker.process.returncode
        if not worker.is_ready:
            raise RuntimeError(
                f"verifier worker for {self._factory} "
                f"{'hung' if is_late else f'ended with status {status}'} while "
                "it started; what it wrote stands on standard error"
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
                f"clock {TRIES} times without having used its processor time, so there is no verdict on "
                f"it: the machine is overloaded, or the verifier waits for something; lower the load or "
                f"the number of workers. It begins {str(call.items[index])[:200]!r}"
            )

    def _drop(self, worker: "_Worker") -> None:
        worker.kill()
        self._workers.remove(worker)


# The kernel watches both times; a launcher passes a signal on as 128 + its number.
LATE, STARVED = ({-n, 128 + n} for n in (signal.SIGPROF, signal.SIGALRM))


@dataclass(frozen=True, slots=True)
class _Call:
    """The items of one call, those that no worker has, the verdicts so far, and how often each met the clock."""

    items: Sequence[Any]
    pending: deque[int]
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    tries: Counter[int] = field(default_factory=Counter)


class _Worker:
    """One process, the items in its hands (the first is being judged), and when that one is late."""

    def __init__(self, command: Sequence[str]) -> None:
        # Its own session: Ctrl-C reaches the parent only, and a kill takes what the verifier started along.
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=ENVIRONMENT,
            start_new_session=True,
            bufsize=0,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.questions: IO[bytes] = self.process.stdin
        self.answers: IO[bytes] = self.process.stdout
        self.pipe = self.answers.fileno()
        self.deadline = time.monotonic() + START_LIMIT_S
        self.is_ready = False
        self.given: deque[int] = deque()
        self.unread = b""

    def give(self, indices: Sequence[int], items: Sequence[Any], wall_limit_s: float) -> None:
        # One line, which the worker reads to its end before it judges: a write never waits for a verdict.
        line = memoryview(json.dumps(items).encode() + b"\n")
        # A worker that has just died is found by `read`.
        with contextlib.suppress(BrokenPipeError):
            while line:
                line = line[self.questions.write(line) :]
        self.given.extend(indices)
        self.deadline = time.monotonic() + wall_limit_s

    def read(self) -> list[Any] | None:
        """The complete messages that have arrived; None at the end of the pipe."""
        messages: list[Any] = []
        while not messages:
            data = os.read(self.pipe, 1 << 16)
            if not data:
                return None
            *lines, self.unread = (self.unread + data).split(b"\n")
            messages = [json.loads(line) for line in lines]
        return messages

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.questions.close()
        self.answers.close()


def _stop_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().kill()


def _command(setup: Mapping[str, Any], is_walled: bool) -> list[str]:
    """Return the command of a worker, behind the strongest walls there are if it is to be walled."""
    python = interpreter()
    command = python_command(python, BOOT, setup)
    if not is_walled:
        return command
    # Shown inside, the machine's own /tmp would hide the empty one.
    packages = [Bind(Path(path), Path(path)) for path in setup["path"] if Path(path) != TMP]
    return walled(
        best_walls(), command, [*python.binds, *packages], TMP_BYTES, may_change_user=False
    )


def serve(factory: str, args: Mapping[str, Any], time_limit_s: float, wall_limit_s: float) -> None:
    """Judge chunks from standard input until it closes; the whole life of a worker process.

    Args:
        factory: `module:function` that makes the verifier.
        args: its arguments.
        time_limit_s: seconds of processor time one item may take.
        wall_limit_s: seconds it may take by the clock, which the parent enforces.
    """
    # What a verifier prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message: object) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        _limit_memory()
        # A program of the same user must not read the tests here, or write into the pipe of verdicts.
        forbid_inspection()
        verify = _load(factory, args)
        _silence()
        say("ready")
        for line in sys.stdin:
            for item in json.loads(line):
                # The kernel ends an item that is late, even one that holds the GIL or has lost its parent.
                signal.setitimer(signal.ITIMER_PROF, time_limit_s)
                signal.setitimer(signal.ITIMER_REAL, wall_limit_s + 1)
                found = verify(item)
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.setitimer(signal.ITIMER_REAL, 0)
                verdict = found if isinstance(found, Verdict) else Verdict(float(found))
                if not math.isfinite(verdict.score):
                    raise ValueError(f"the verifier returned {verdict.score} for {item!r}")
                say([verdict.score, verdict.error, verdict.reason])
    except BrokenPipeError:
        pass
    except ConnectionError as error:  # of a service that the verifier stands on
        say({"error": str(error), "is_connection": True})
    except Exception:
        say({"error": traceback.format_exc(), "is_connection": False})


def _load(factory: str, args: Mapping[str, Any]) -> Callable[[Any], float | Verdict]:
    module, _, name = factory.partition(":")
    return getattr(import_module(module), name)(**args)


def _limit_memory() -> None:
    # macOS refuses this limit; there only the time limit holds.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))


def _silence() -> None:
    sink = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(sink, stream)
    os.close(sink)
