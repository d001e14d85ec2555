"""Verifiers of other packages, run in worker processes that may be killed.

A verifier is foreign code that reads text a model wrote: it can loop, fill the memory, or take the
process down. So it never runs in the process that trains. A worker is started once, imports its
verifier, says so, and then judges chunks of items; import time is on no item's clock. The worker
answers item by item and starts the next one at once, so the parent's clock for an item starts when
it has read the previous answer: never before the item itself started, whatever else the machine
does. A worker whose item runs over its limit is killed and replaced, and the items behind that one
are judged by another.

Three outcomes are kept apart. A bad answer is a score. An item that ran too long or took its worker
down is a `Verdict` that says so, so that callers can count it. A verifier that cannot run at all (a
missing import, an exception it lets through) is no verdict: `judge` raises, because a reward of
zero would train on it.

Parent and worker speak JSON over pipes: nothing is pickled, and a worker ends when its pipe closes,
hence also when the parent is killed. This bounds time and memory; it is no sandbox: a verifier that
executes an answer must be shielded by an alphabet (`rewards.reasoning_gym`).
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
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import wait
from typing import IO, Any, Literal

from unmask.types import Score

CHUNK = 64
START_LIMIT_S = 120.0
MEMORY_LIMIT_BYTES = 4 * 2**30
# The child finds its modules as the parent does, also where the parent's path was changed at run time.
BOOT = (
    "import json, sys; setup = json.loads(sys.argv[1]); sys.path[:] = setup.pop('path');"
    "from unmask.rewards.workers import serve; serve(**setup)"
)
# One thread per worker; sympy walks sets, so a fixed hash seed makes a verdict repeatable.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one item: its score, or 0 and why there is none."""

    score: float
    error: Literal["timeout", "crash"] | None = None


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
        self, factory: str, args: Mapping[str, Any], workers: int = 1, time_limit_s: float = 5.0
    ) -> None:
        """Describe the workers; none is started yet.

        Args:
            factory: `module:function`; called once in every worker as `function(**args)`, it
                returns the verifier: a function from an item to a finite score.
            args: its arguments, JSON values.
            workers: how many processes.
            time_limit_s: seconds one item may take from its own start.
        """
        setup = {"path": sys.path, "factory": factory, "args": args, "time_limit_s": time_limit_s}
        self._command = [sys.executable, "-W", "ignore", "-c", BOOT, json.dumps(setup)]
        self._factory = factory
        self._num_workers = workers
        self._time_limit_s = time_limit_s
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _stop_all, self._workers)

    def __enter__(self) -> "VerifierPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the workers; a later `judge` starts new ones."""
        _stop_all(self._workers)

    def judge(self, items: Sequence[Any]) -> list[Verdict]:
        """Judge items, each a JSON value; the verdicts come in the order of the items.

        Raises:
            RuntimeError: the verifier itself cannot run; the message holds its traceback.
        """
        verdicts: dict[int, Verdict] = {}
        pending = deque(range(len(items)))
        try:
            while len(verdicts) < len(items):
                self._hand_out(items, pending)
                for worker in self._await():
                    self._collect(worker, verdicts, pending)
        except BaseException:
            # Answers to this call may still be on their way; the next call must not read them.
            self.close()
            raise
        return [verdicts[index] for index in range(len(items))]

    def _hand_out(self, items: Sequence[Any], pending: deque[int]) -> None:
        """Keep every worker alive and, while there are items, busy."""
        # One that ended before it was ready is `_bury`'s to report.
        idle = [worker for worker in self._workers if worker.is_ready and not worker.given]
        for worker in idle:
            if worker.process.poll() is not None:
                self._drop(worker)
        while len(self._workers) < self._num_workers:
            self._workers.append(_Worker(self._command))
        size = min(CHUNK, math.ceil(len(pending) / self._num_workers))
        for worker in self._workers:
            if worker.is_ready and not worker.given and pending:
                chunk = [pending.popleft() for _ in range(min(size, len(pending)))]
                worker.give(chunk, [items[index] for index in chunk], self._time_limit_s)

    def _await(self) -> list["_Worker"]:
        """Wait until a worker has something to say or has run out of time."""
        busy = [worker for worker in self._workers if worker.given or not worker.is_ready]
        patience = min(worker.deadline for worker in busy) - time.monotonic()
        heard = wait([worker.pipe for worker in busy], max(0.0, patience))
        return [
            worker for worker in busy if worker.pipe in heard or worker.deadline < time.monotonic()
        ]

    def _collect(
        self, worker: "_Worker", verdicts: dict[int, Verdict], pending: deque[int]
    ) -> None:
        """Take the verdicts a worker has ready; bury it if it is late or gone."""
        # Late means that nothing has arrived: an answer that lies in the pipe was in time.
        is_late = not wait([worker.pipe], 0)
        messages = [] if is_late else worker.read()
        for message in messages or []:
            if isinstance(message, dict):
                raise RuntimeError(f"verifier {self._factory} cannot run:\n{message['error']}")
            if worker.is_ready:
                verdicts[worker.given.popleft()] = Verdict(float(message))
            worker.is_ready = True
            worker.deadline = time.monotonic() + self._time_limit_s
        if not messages:
            self._bury(worker, is_late, verdicts, pending)

    def _bury(
        self, worker: "_Worker", is_late: bool, verdicts: dict[int, Verdict], pending: deque[int]
    ) -> None:
        """Give the item in hand the verdict that it has none, and put the others back."""
        self._drop(worker)
        if not worker.is_ready:
            raise RuntimeError(
                f"verifier worker for {self._factory} "
                f"{'hung' if is_late else f'ended with status {worker.process.returncode}'} while "
                "it started; what it wrote stands on standard error"
            )
        # The kernel was quicker than a parent that was kept waiting for the processor.
        is_late = is_late or worker.process.returncode == -signal.SIGALRM
        if worker.given:
            verdicts[worker.given.popleft()] = Verdict(0.0, "timeout" if is_late else "crash")
            pending.extendleft(reversed(worker.given))

    def _drop(self, worker: "_Worker") -> None:
        worker.kill()
        self._workers.remove(worker)


class _Worker:
    """One process, the items in its hands (the first is being judged), and when that one is late."""

    def __init__(self, command: Sequence[str]) -> None:
        # Its own session: Ctrl-C reaches the parent only, and a kill takes what the verifier started along.
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **ENVIRONMENT},
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

    def give(self, indices: Sequence[int], items: Sequence[Any], time_limit_s: float) -> None:
        # One line, which the worker reads to its end before it judges: a write never waits for a verdict.
        line = memoryview(json.dumps(items).encode() + b"\n")
        # A worker that has just died is found by `read`.
        with contextlib.suppress(BrokenPipeError):
            while line:
                line = line[self.questions.write(line) :]
        self.given.extend(indices)
        self.deadline = time.monotonic() + time_limit_s

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


def serve(factory: str, args: Mapping[str, Any], time_limit_s: float) -> None:
    """Judge chunks from standard input until it closes; the whole life of a worker process.

    Args:
        factory: `module:function` that makes the verifier.
        args: its arguments.
        time_limit_s: seconds one item may take; the parent enforces it.
    """
    # What a verifier prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message: object) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        _limit_memory()
        verify = _load(factory, args)
        _silence()
        say("ready")
        for line in sys.stdin:
            for item in json.loads(line):
                # The kernel ends an item that outlives a killed parent, even one that holds the GIL.
                signal.setitimer(signal.ITIMER_REAL, time_limit_s + 1)
                score = float(verify(item))
                signal.setitimer(signal.ITIMER_REAL, 0)
                if not math.isfinite(score):
                    raise ValueError(f"the verifier returned {score} for {item!r}")
                say(score)
    except BrokenPipeError:
        pass
    except Exception:
        say({"error": traceback.format_exc()})


def _load(factory: str, args: Mapping[str, Any]) -> Callable[[Any], float]:
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
