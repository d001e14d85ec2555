"""One program, locked in: started blank, given its program, called, and gone without a trace.

Here is the trusted end of the wall. What comes through is text of limited size, read as literals
(`guest.literals`), one answer per call, carrying the random number of that call: an answer written
beforehand, a second answer, or anything else is a breach, and a breach fails the test whatever the
test makes of it. What a program can do is return whatever it likes, and stop answering.

Three ends are kept apart: `timeout` (processor time decides, as the kernel counts it; the clock
stands behind it for sleepers), `crash` (the process ended, broke the protocol or said too much) and
`wrong`, which is the test's to find. A sandbox that does not even come up is no verdict on the
program: that raises.
"""

import contextlib
import json
import math
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

from unmask.sandbox import cgroup
from unmask.sandbox.command import ENVIRONMENT, TMP, Means, interpreter, program_command
from unmask.sandbox.guest.literals import parse_line, refuse
from unmask.sandbox.limits import (
    ForeignValueError,
    Limits,
    ProgramFailedError,
    UnfitTestError,
    check_stdin,
)
from unmask.sandbox.program_calls import packed_call, value_of_answer
from unmask.sandbox.program_objects import ProgramObject
from unmask.sandbox.user import lease_user, remove, remove_files_of

START_LIMIT_S = 60.0
# An honest program ends on its own once its channel is closed; a hostile one is helped.
END_LIMIT_S = 1.0
# How long the watcher may take to end what the program has started.
WATCH_LIMIT_S = 10.0
# How long removing its files may take; what is left then, `CodeGrader.close` tries again.
CLEAN_LIMIT_S = 3.0
Failure = Literal["timeout", "crash"]


class Sandbox:
    """A process that waits for a program, holds it, and is killed with all it started.

    Attributes:
        failure: why the program can answer no more; None while it can.
        breach: whether a result was no literal, which fails the test even if the test hides it.
        raised: the exception that stands for the last one of the program.
        keeps_objects: whether a result may be an object that stays inside (`ProgramObject`).
    """

    def __init__(
        self,
        means: Means,
        limits: Limits,
        python: Path | None = None,
        stderr: IO[bytes] | None = None,
        scratch: str | None = None,
    ) -> None:
        """Start the process; it is ready when `wait_until_ready` returns.

        Args:
            means: the walls around it.
            limits: what its program may use up.
            python: the interpreter; `None` is the one that runs this.
            stderr: takes what it says on standard error, which is thrown away otherwise.
            scratch: where its folder is made if there are no namespaces; None is the system's place.
        """
        self.failure: Failure | None = None
        self.breach = False
        self.raised: Exception | None = None
        self.keeps_objects = False
        self._has_answered = False
        self._limits = limits
        self._deadline = math.inf
        self._folder: str | None = None
        self._report: tuple[int, Failure | None] | None = None
        interpreter(python)  # which may not run: nothing has been made yet
        # Root is held to no number of processes, so its programs have users of their own.
        self._lease = lease_user() if os.geteuid() == 0 else None
        if means == "limits":
            self._folder = tempfile.mkdtemp(prefix="unmask-program-", dir=scratch)
            if self._lease:
                os.chown(self._folder, self._lease.uid, self._lease.uid)
        home = self._folder or str(TMP)
        self._channel, theirs = socket.socketpair()
        self._watcher, control = socket.socketpair()
        self._cgroup = cgroup.make(limits.memory + limits.file, limits.processes)
        with theirs, control, ExitStack() as opened:
            inherited = [control.fileno(), *([self._lease.lock] if self._lease else [])]
            if self._cgroup is not None:
                entry = opened.enter_context((self._cgroup / "cgroup.procs").open("w"))
                inherited.append(entry.fileno())
            setup = {
                "limits": asdict(limits),
                "uid": self._lease.uid if self._lease else None,
                "inherited": inherited,
                "has_cgroup": self._cgroup is not None,
            }
            self._process = subprocess.Popen(
                program_command(means, python, home, setup),
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=stderr or subprocess.DEVNULL,
                env={**ENVIRONMENT, "HOME": home, "TMPDIR": home},
                cwd=self._folder or "/",
                start_new_session=True,
                pass_fds=inherited,
            )
        assert self._process.stdout is not None
        self._stdout = self._process.stdout.fileno()
        os.set_blocking(self._stdout, False)
        self._ended = os.pidfd_open(self._process.pid)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the process and all it started, and remove its files."""
        self.failure = self.failure or "crash"
        self._end()
        self._channel.close()
        self._watcher.close()
        if self._ended >= 0:
            os.close(self._ended)
            self._ended = -1
        assert self._process.stdout is not None
        self._process.stdout.close()
        if self._folder is not None:
            deadline = time.monotonic() + CLEAN_LIMIT_S
            remove(Path(self._folder), deadline)
            if self._lease:
                remove_files_of(self._lease.uid, deadline)
            self._folder = None
        if self._lease:
            os.close(self._lease.lock)
            self._lease = None

    def finish(self) -> None:
        """End the process, and set `failure` if all it started took more than a test may."""
        _, failure = self._end()
        self.failure = self.failure or failure

    def wait_until_ready(self) -> None:
        """Wait for the blank process, and start the program's clock.

        Raises:
            RuntimeError: it does not come up, or has gone while it waited for a program, which is no
                program's fault.
        """
        self._deadline = time.monotonic() + START_LIMIT_S
        try:
            line = self._read_line()
        except ProgramFailedError:
            line = b""
        if line != b"ready" or self._process.poll() is not None:
            status = self._process.returncode
            raise RuntimeError(
                f"the sandbox did not start (status {status}); `unmask doctor` says what this machine can do"
            )
        self._deadline = time.monotonic() + self._limits.wall_s

    def load(self, program: str, keeps_objects: bool = False) -> None:
        """Hand the program over and let it define what it defines.

        Args:
            program: its source.
            keeps_objects: whether its functions may return objects of its own classes.

        Raises:
            Exception: what it raised while it did.
            ProgramFailedError: it ended, or broke the protocol.
        """
        self.keeps_objects = keeps_objects
        self._send({"program": program, "stdin": None, "keeps_objects": keeps_objects})
        self.call(None)

    def call(self, target: str | None, *args: object, **kwargs: object) -> Any:
        """Call a function of the program and return its result.

        Args:
            target: `f`, or `Solution().f` for a method of a fresh object; see `guest.main.find`.
            *args: literals, which cross by value: what the program does to them is not seen here; and
                objects of the program.
            **kwargs: the same.

        Raises:
            Exception: what the program raised, if it is an exception of Python itself.
            ProgramRaisedError: it raised something else, or its result is no literal.
            ProgramFailedError: it has ended or broken the protocol.
        """
        if self.failure:
            raise ProgramFailedError(self.failure)
        try:
            question = packed_call(target, args, kwargs, self._has_answered)
            self._send(question)
            value = value_of_answer(self._read_line(), question["number"], self._object)
        except (ForeignValueError, UnfitTestError) as error:
            self.breach |= isinstance(error, ForeignValueError)
            raise
        except Exception as error:
            self.raised = error
            raise
        except ProgramFailedError:
            self._fail("crash")
        self._has_answered = target is not None
        return value

    def run(self, program: str, stdin: str) -> str | None:
        """Run a program to its end with this standard input.

        Returns:
            What it printed; None where it failed, with the reason in `failure`.

        Raises:
            UnfitTestError: no program could be given that much to read.
        """
        check_stdin(stdin, self._limits)
        try:
            self._send({"program": program, "stdin": stdin})
            output = self._read_output()
        except ProgramFailedError:
            return None
        status, failure = self._end()
        if status or failure:
            self.failure = failure or "crash"
            return None
        return output.decode("utf-8", "replace")

    def _object(self, number: int) -> ProgramObject:
        """Return what stands for an object of the program."""
        return ProgramObject(self.call, number) if self.keeps_objects else refuse(number)

    def _send(self, message: object) -> None:
        self._channel.settimeout(max(0.001, self._deadline - time.monotonic()))
        try:
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except TimeoutError:
            self._fail("timeout")
        except OSError:
            self._find_out_why()

    def _read_line(self) -> bytes:
        """Read one line and no byte more, within the limits."""
        line, data = bytearray(), b""
        while b"\n" not in data:
            self._channel.settimeout(max(0.001, self._deadline - time.monotonic()))
            try:
                data = self._channel.recv(1 << 20)
            except TimeoutError:
                self._fail("timeout")
            except OSError:
                data = b""
            if not data:
                self._find_out_why()
            line += data
            if len(line) > self._limits.output:
                self._fail("crash")
        answer, _, rest = bytes(line).partition(b"\n")
        return answer if not rest else self._fail("crash")

    def _read_output(self) -> bytes:
        """Read what the program prints until it has ended; what it left behind may not print on."""
        output = bytearray()
        ends = [self._watcher, self._ended]
        is_open, has_ended = True, False
        while not has_ended:
            heard, *_ = select.select(
                [*ends, *([self._stdout] if is_open else [])],
                *([], [], max(0.0, self._deadline - time.monotonic())),
            )
            if not heard:
                self._fail("timeout")
            # Looked at before the pipe is emptied: what an ended program printed is all there.
            has_ended = any(end in heard for end in ends)
            is_open = is_open and self._drain(output)
        return bytes(output)

    def _drain(self, output: bytearray) -> bool:
        """Take what lies in the pipe, and say whether more may come."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._stdout, 1 << 16):
                output += data
                if len(output) > self._limits.output:
                    self._fail("crash")
            return False
        return True

    def _find_out_why(self) -> NoReturn:
        """The channel is closed: wait for the end that must be near, and name its reason."""
        has_ended, *_ = select.select([self._watcher, self._ended], [], [], END_LIMIT_S)
        _, failure = self._end()
        self._fail(failure if failure and has_ended else "crash")

    def _fail(self, failure: Failure) -> NoReturn:
        self.failure = self.failure or failure
        self._end()
        raise ProgramFailedError(self.failure)

    def _end(self) -> tuple[int, Failure | None]:
        """End what still runs, and return the program's status and the limit that it exceeded."""
        if self._report is None:
            with contextlib.suppress(OSError):
                self._watcher.shutdown(socket.SHUT_WR)
            select.select([self._watcher, self._ended], [], [], WATCH_LIMIT_S)
            self._watcher.setblocking(False)
            with contextlib.suppress(OSError):
                self._report = parse_line(self._watcher.recv(1 << 12))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            status = self._process.wait()
            if self._cgroup is not None:
                cgroup.end(self._cgroup)
            # A watcher that could not report has been killed, by the program or for its memory.
            self._report = self._report or (status, "crash")
        return self._report
