"""One program in a sandbox service, for machines on which programs cannot be locked in.

The service is asked as SandboxFusion is (arXiv 2412.00535): `POST URL/run_code` takes a source, its
standard input and its limits, and replies what it printed. The test stays on this side, as with a
local sandbox (`sandbox.process`): results cross as literals, and an answer that does not carry the
random number of its call is a breach.

The service keeps no process between two requests. So a call sends the program with all calls made so
far, and only the last answer is printed: a deterministic program is in the state that those calls
left behind, and k calls take k requests, which repeat k (k - 1) / 2 calls.

What the program does is a verdict; what the service does is none. A service that fails is asked again,
and one that keeps failing raises.
"""

import contextlib
import json
import signal
import time
from functools import cache, partial
from pathlib import Path
from typing import Any, NoReturn

from unmask.json_files import parse_object
from unmask.sandbox.guest.literals import refuse
from unmask.sandbox.http_post import LargeReplyError, Reply, post, run_with_client
from unmask.sandbox.limits import (
    MIB,
    ForeignValueError,
    Limits,
    ProgramFailedError,
    UnfitTestError,
)
from unmask.sandbox.process import Failure
from unmask.sandbox.program_calls import packed_call, value_of_answer
from unmask.sandbox.program_objects import ProgramObject

TRIES = 5
# Seconds before the second try; doubled each time.
PAUSE_S = 0.5
HEADERS = {"Content-Type": "application/json"}
# Of a program that prints as much as `task.sandbox.output_mb` allows, to both of its streams, escaped.
MAX_REPLY_BYTES = 2**28
# A shell passes a signal on as 128 + its number.
OUT_OF_TIME = (-signal.SIGXCPU, 128 + signal.SIGXCPU)
# What a request may take beside the program: waiting for its turn, first of all.
QUEUE_S = 120.0
# Modules of ours that the program's process imports stand in the request, none is installed there.
BOOT = """\
import importlib.abc, importlib.util, json, sys
SOURCES, JOB = json.loads({sources!r}), json.loads({job!r})
class Sent(importlib.abc.InspectLoader, importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self) if name in SOURCES else None
    def get_source(self, name):
        return SOURCES[name]
    def is_package(self, name):
        return not SOURCES[name]
sys.meta_path.insert(0, Sent())
from unmask.sandbox.guest.replay import main
main(JOB)
"""


class ServiceFailedError(ConnectionError):
    """The service fails, which is no verdict; a program may raise a `ConnectionError` of its own."""


class RemoteSandbox:
    """A program that a service runs; the interface of `Sandbox`.

    Attributes:
        failure: why the program can answer no more; None while it can.
        breach: whether a result was no literal, which fails the test even if the test hides it.
        raised: the exception that stands for the last one of the program.
    """

    def __init__(self, url: str, limits: Limits) -> None:
        """Name the service; nothing is asked yet."""
        self.failure: Failure | None = None
        self.breach = False
        self.raised: Exception | None = None
        self._url = f"{url.rstrip('/')}/run_code"
        self._limits = limits
        self._program = ""
        self._keeps_objects = False
        self._questions: list[str] = []

    def __enter__(self) -> "RemoteSandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Answer no more; nothing runs between two requests."""
        self.failure = self.failure or "crash"

    def wait_until_ready(self) -> None:
        """Return at once: a service is ready or fails."""

    def load(self, program: str, keeps_objects: bool = False) -> None:
        """As `Sandbox.load`."""
        self._program, self._keeps_objects, self._questions = program, keeps_objects, []
        self.call(None)

    def call(self, target: str | None, *args: object, **kwargs: object) -> Any:
        """As `Sandbox.call`.

        Raises:
            ConnectionError: the service fails, beside what `Sandbox.call` raises.
        """
        if self.failure:
            raise ProgramFailedError(self.failure)
        try:
            question = packed_call(target, args, kwargs, has_answered=len(self._questions) > 1)
            self._questions.append(json.dumps(question))
            answer = self._run(self._questions, "").encode()
            return value_of_answer(answer, question["number"], self._object)
        except (ForeignValueError, UnfitTestError, ServiceFailedError) as error:
            self.breach |= isinstance(error, ForeignValueError)
            raise
        except Exception as error:
            self.raised = error
            raise
        except ProgramFailedError:
            self._fail("crash")

    def finish(self) -> None:
        """Return at once: between two requests nothing runs that could exceed a limit."""

    def run(self, program: str, stdin: str) -> str | None:
        """As `Sandbox.run`; a lone surrogate in `stdin` is replaced.

        Raises:
            ConnectionError: the service fails.
        """
        self._program = program
        with contextlib.suppress(ProgramFailedError):
            return self._run(None, stdin)
        return None

    def _object(self, number: int) -> ProgramObject:
        return ProgramObject(self.call, number) if self._keeps_objects else refuse(number)

    def _run(self, questions: list[str] | None, stdin: str) -> str:
        """Return what the program prints.

        Raises:
            ProgramFailedError: it ended by a failure, took too long or printed too much.
            ConnectionError: the service fails.
        """
        job = {
            "program": self._program,
            "cpu_s": self._limits.cpu_s,
            "questions": questions,
            "keeps_objects": self._keeps_objects,
        }
        request = {
            "code": BOOT.format(sources=_sources(), job=json.dumps(job)),
            "language": "python",
            "stdin": stdin.encode("utf-8", "replace").decode(),
            "run_timeout": self._limits.wall_s,
            "memory_limit_MB": self._limits.memory // MIB,
        }
        status, printed = self._ask(json.dumps(request).encode())
        if status in OUT_OF_TIME:
            return self._fail("timeout")
        if status != 0 or len(printed) > self._limits.output:
            return self._fail("crash")
        return printed

    def _ask(self, body: bytes) -> tuple[int, str]:
        """Return status and output of a request, which is sent again where the service fails."""
        reason = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE_S * 2 ** (attempt - 1))
            limit_s = self._limits.wall_s + QUEUE_S
            send = partial(post, url=self._url, body=body, headers=HEADERS, timeout_s=limit_s)
            try:
                return _result(run_with_client(partial(send, max_bytes=MAX_REPLY_BYTES)))
            except LargeReplyError:  # the program has printed it
                return self._fail("crash")
            except (OSError, ValueError) as error:
                reason = str(error)
        raise ServiceFailedError(f"task.sandbox.url: {self._url}: {reason} ({TRIES} tries)")

    def _fail(self, failure: Failure) -> NoReturn:
        self.failure = self.failure or failure
        raise ProgramFailedError(self.failure)


@cache
def _sources() -> str:
    """Return the modules that the program's process imports, by name; a package has no source."""
    guest = Path(__file__).with_name("guest")
    name = "unmask.sandbox.guest"
    modules = {f"{name}.{path.stem}": path.read_text() for path in sorted(guest.glob("*.py"))}
    return json.dumps({"unmask": "", "unmask.sandbox": "", name: ""} | modules)


def _result(reply: Reply) -> tuple[int, str]:
    """Return the status that a program ended with, and what it printed.

    Raises:
        ValueError: the service did not run it.
    """
    shown = " ".join(reply.body[:300].decode(errors="replace").split())
    if reply.status != 200:
        raise ValueError(f"it answered {reply.status}: {shown}")
    match parse_object(reply.body, "its reply"):
        case {"status": "Success" | "Failed", "run_result": {"status": "TimeLimitExceeded"}}:
            return -signal.SIGXCPU, ""
        case {
            "status": "Success" | "Failed",
            "run_result": {"status": "Finished", "return_code": int(code), "stdout": printed},
        } if printed is None or isinstance(printed, str):
            return code, printed or ""
        case _:
            raise ValueError(f"it ran no program: {shown}")
