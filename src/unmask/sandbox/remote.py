"""One program in a sandbox service, for machines that cannot isolate programs themselves.

The interface is SandboxFusion's (arXiv 2412.00535): `POST URL/run_code` takes a source, its standard
input and its limits, and returns what the program printed. The test stays on this side, as with a local
sandbox (`sandbox.process`): results cross as literals, and an answer without the random number of its
call is a breach.

The service keeps no process between two requests. Each call therefore sends the program with all calls
so far, of which only the last answer is printed: a deterministic program is then in the state that those
calls produced, and k calls take k requests that repeat k (k - 1) / 2 calls.

A failure of the program is a grading result, a failure of the service is not: the request is sent again,
and after `TRIES` failures an error is raised.
"""

import contextlib
import json
import signal
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

from unmask.json_files import parse_object
from unmask.sandbox.http_post import LargeReplyError, Reply, post, run_with_client
from unmask.sandbox.limits import MIB, Limits, ProgramFailedError
from unmask.sandbox.program_calls import CalledProgram, ServiceFailedError

TRIES = 5
# Seconds before the second try; doubled each time.
PAUSE_S = 0.5
HEADERS = {"Content-Type": "application/json"}
# Both streams of a program that prints as much as `task.sandbox.output_mb` allows, escaped in JSON.
MAX_REPLY_BYTES = 2**28
# A shell reports a signal as 128 + its number.
OUT_OF_TIME = (-signal.SIGXCPU, 128 + signal.SIGXCPU)
# Time a request may take in addition to the program, most of it waiting in the queue of the service.
QUEUE_S = 120.0
# The request contains the modules of `guest`, because unmask is not installed in the service.
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


class RemoteSandbox(CalledProgram):
    """A program that a service runs; same interface as `process.Sandbox`."""

    def __init__(self, url: str, limits: Limits) -> None:
        """Set the address; no request is sent yet."""
        self._url = f"{url.rstrip('/')}/run_code"
        self._limits = limits
        self._program = ""
        self._questions: list[str] = []

    def close(self) -> None:
        """Refuse further calls; nothing runs between two requests."""
        self.failure = self.failure or "crash"

    def wait_until_ready(self) -> None:
        """Return at once: a service is ready or fails."""

    def load(self, program: str, keeps_objects: bool = False) -> None:
        """As `Sandbox.load`."""
        self._program, self.keeps_objects, self._questions = program, keeps_objects, []
        self.call(None)

    def ask(self, question: dict[str, Any]) -> bytes:
        """Send the program with all calls so far, and return the answer to the last one."""
        self._questions.append(json.dumps(question))
        return self._run(self._questions, "").encode()

    def finish(self) -> None:
        """Return at once: no process is left that could exceed a limit."""

    def run(self, program: str, stdin: str) -> str | None:
        """As `Sandbox.run`; a lone surrogate in `stdin` is replaced.

        Raises:
            ConnectionError: the service fails.
        """
        self._program = program
        with contextlib.suppress(ProgramFailedError):
            return self._run(None, stdin)
        return None

    def _run(self, questions: list[str] | None, stdin: str) -> str:
        """Run the program in the service and return its standard output.

        Raises:
            ProgramFailedError: the program failed, took too long or printed too much.
            ConnectionError: the service fails.
        """
        job = {
            "program": self._program,
            "cpu_s": self._limits.cpu_s,
            "questions": questions,
            "keeps_objects": self.keeps_objects,
        }
        request = {
            "code": BOOT.format(sources=_sources(), job=json.dumps(job)),
            "language": "python",
            "stdin": stdin.encode("utf-8", "replace").decode(),
            "run_timeout": self._limits.wall_s,
            "memory_limit_MB": self._limits.memory // MIB,
        }
        status, printed = self._ask(json.dumps(request).encode())
        if status in OUT_OF_TIME:  # the guest's own limit, see `guest.replay`
            return self.fail("timeout")
        if status != 0 or len(printed) > self._limits.output:
            return self.fail("crash")
        return printed

    def _ask(self, body: bytes) -> tuple[int, str]:
        """Return exit status and output of a request; it is sent again while the service fails."""
        reason = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE_S * 2 ** (attempt - 1))
            limit_s = self._limits.wall_s + QUEUE_S
            send = partial(post, url=self._url, body=body, headers=HEADERS, timeout_s=limit_s)
            try:
                return _result(run_with_client(partial(send, max_bytes=MAX_REPLY_BYTES)))
            except LargeReplyError:  # the program has printed it
                return self.fail("crash")
            except (OSError, ValueError) as error:
                reason = str(error)
        raise ServiceFailedError(f"task.sandbox.url: {self._url}: {reason} ({TRIES} tries)")


@cache
def _sources() -> str:
    """Return the modules of `guest` by name, as JSON; a package has an empty source."""
    guest = Path(__file__).with_name("guest")
    name = "unmask.sandbox.guest"
    modules = {f"{name}.{path.stem}": path.read_text() for path in sorted(guest.glob("*.py"))}
    return json.dumps({"unmask": "", "unmask.sandbox": "", name: ""} | modules)


def _result(reply: Reply) -> tuple[int, str]:
    """Return the exit status of a program and what it printed.

    Raises:
        ValueError: the service did not run the program.
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
            raise ValueError(f"it did not run the program: {shown}")
