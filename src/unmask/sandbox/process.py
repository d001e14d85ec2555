"""Parent side of the sandbox: one untrusted program in a process of its own, called over lines of JSON.

A result crosses as a literal of limited size (`guest.literals`), one answer per call, with the random
number of that call. An answer written beforehand, a second answer or anything else is a breach, and a
breach fails the test even if the test catches the exception. So a program can choose its results and it
can stop answering; nothing else.

Three outcomes are kept apart: `timeout` (processor time as the kernel counts it, and by the clock for a
program that sleeps), `crash` (the process ended, broke the protocol or printed too much), and a wrong
result, which the test finds. A sandbox that does not start raises an error: that is no property of the
program.
"""

import contextlib
import os
import select
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, NoReturn

from unmask.sandbox import cgroup
from unmask.sandbox.child import Child
from unmask.sandbox.command import ENVIRONMENT, TMP, Backend, interpreter, program_command
from unmask.sandbox.guest.literals import parse_line
from unmask.sandbox.limits import Limits, ProgramFailedError, check_stdin
from unmask.sandbox.program_calls import CalledProgram, Failure
from unmask.sandbox.user import lease_user, remove, remove_files_of

START_LIMIT_S = 60.0
# An honest program ends by itself once its channel is closed; others are killed.
END_LIMIT_S = 1.0
# Time for the supervisor to kill all processes that the program has started.
WATCH_LIMIT_S = 10.0
# Time for removing its files; `CodeGrader.close` tries again to remove what is left.
CLEAN_LIMIT_S = 3.0


class Sandbox(CalledProgram):
    """A process that waits for a program, runs it, and is killed with all processes it started."""

    def __init__(
        self,
        backend: Backend,
        limits: Limits,
        python: Path | None = None,
        stderr: IO[bytes] | None = None,
        scratch: str | None = None,
    ) -> None:
        """Start the process; it is ready when `wait_until_ready` returns.

        Args:
            backend: how it is isolated.
            limits: what its program may use.
            python: the interpreter; None is the one that runs this.
            stderr: receives its standard error, which is discarded otherwise.
            scratch: where its folder is made if there are no namespaces; None is the system's default.
        """
        self._limits = limits
        # Undone by `close`, last one first.
        self._opened = ExitStack()
        self._report: tuple[int, Failure | None] | None = None
        interpreter(python)  # may raise: nothing has been made yet
        # The kernel's limit on processes does not hold for root, so its programs get their own users.
        lease = lease_user() if os.geteuid() == 0 else None
        uid = lease.uid if lease else None
        if lease:
            self._opened.callback(os.close, lease.lock)
        home, start = str(TMP), "/"
        if backend == "limits":
            home = start = tempfile.mkdtemp(prefix="unmask-program-", dir=scratch)
            self._opened.callback(_remove_files, home, uid)
            if uid is not None:
                os.chown(home, uid, uid)
        self._supervisor, control = socket.socketpair()
        self._opened.callback(self._supervisor.close)
        self._cgroup = cgroup.make(limits.memory + limits.file, limits.processes)
        with control, ExitStack() as opened:
            inherited = [control.fileno(), *([lease.lock] if lease else [])]
            if self._cgroup is not None:
                entry = opened.enter_context((self._cgroup / "cgroup.procs").open("w"))
                inherited.append(entry.fileno())
            setup = {
                "limits": asdict(limits),
                "uid": uid,
                "inherited": inherited,
                "has_cgroup": self._cgroup is not None,
            }
            self._child = Child(
                program_command(backend, python, home, setup),
                stdout=subprocess.PIPE,
                stderr=stderr or subprocess.DEVNULL,
                env={**ENVIRONMENT, "HOME": home, "TMPDIR": home},
                cwd=start,
                pass_fds=inherited,
            )
        self._opened.callback(self._child.channel.close)
        self._process = self._child.process
        assert self._process.stdout is not None
        self._stdout = self._opened.enter_context(self._process.stdout).fileno()
        os.set_blocking(self._stdout, False)
        self._ended = os.pidfd_open(self._process.pid)
        self._opened.callback(os.close, self._ended)

    def close(self) -> None:
        """Kill the process and all processes it started, and remove its files."""
        self.failure = self.failure or "crash"
        self._end()
        self._opened.close()

    def finish(self) -> None:
        """End the process, and set `failure` if its processes together exceeded a limit."""
        _, failure = self._end()
        self.failure = self.failure or failure

    def wait_until_ready(self) -> None:
        """Wait until the process can take a program, and start the program's clock.

        Raises:
            RuntimeError: it does not start, or ended while it waited for a program; the program is not
                the cause.
        """
        self._child.wait_at_most(START_LIMIT_S)
        try:
            line = self._receive()
        except ProgramFailedError:
            line = b""
        if line != b"ready" or self._process.poll() is not None:
            raise RuntimeError(
                f"the sandbox did not start (status {self._process.returncode}); "
                "`unmask doctor` shows how programs can be isolated here"
            )
        self._child.wait_at_most(self._limits.wall_s)

    def load(self, program: str, keeps_objects: bool = False) -> None:
        """Execute the program's definitions.

        Args:
            program: the source.
            keeps_objects: whether its functions may return objects of its own classes.

        Raises:
            Exception: raised by the program.
            ProgramFailedError: it ended, or broke the protocol.
        """
        self.keeps_objects = keeps_objects
        self._send({"program": program, "stdin": None, "keeps_objects": keeps_objects})
        self.call(None)

    def ask(self, question: dict[str, Any]) -> bytes:
        """Send the record of a call and return the answer, both as `program_calls` defines them."""
        self._send(question)
        return self._receive()

    def run(self, program: str, stdin: str) -> str | None:
        """Run a program to its end with this standard input.

        Returns:
            What it printed; None if it failed, with the reason in `failure`.

        Raises:
            UnfitTestError: the standard input is larger than the program's file system.
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

    def _send(self, message: object) -> None:
        try:
            self._child.send(message)
        except TimeoutError:
            self.fail("timeout")
        except OSError:
            self._fail_as_reported()

    def _receive(self) -> bytes:
        """Return one line; a byte after it is a breach of the protocol."""
        try:
            lines = self._child.receive(self._limits.output)
        except TimeoutError:
            self.fail("timeout")
        except OverflowError:
            self.fail("crash")
        except EOFError:
            self._fail_as_reported()
        return lines[0] if len(lines) == 1 and not self._child.unread else self.fail("crash")

    def _read_output(self) -> bytes:
        """Read what the program prints until it ends; processes that it leaves behind are not waited for."""
        output = bytearray()
        pipe, has_ended = [self._stdout], False
        while not has_ended:
            sources = [self._supervisor, self._ended, *pipe]
            readable, *_ = select.select(sources, [], [], self._child.seconds_left())
            if not readable:
                self.fail("timeout")
            # Checked before the pipe is read: a program that has ended has printed everything.
            has_ended = self._supervisor in readable or self._ended in readable
            with contextlib.suppress(BlockingIOError):
                while data := os.read(self._stdout, 1 << 16):
                    output += data
                    if len(output) > self._limits.output:
                        self.fail("crash")
                pipe = []  # closed: it would always be readable
        return bytes(output)

    def _fail_as_reported(self) -> NoReturn:
        """Fail after the channel was closed, for the reason that the supervisor reports."""
        has_ended, *_ = select.select([self._supervisor, self._ended], [], [], END_LIMIT_S)
        _, failure = self._end()
        self.fail(failure if failure and has_ended else "crash")

    def _end(self) -> tuple[int, Failure | None]:
        """Kill what still runs, and return the program's status and the limit that it exceeded."""
        if self._report is None:
            with contextlib.suppress(OSError):
                self._supervisor.shutdown(socket.SHUT_WR)
            select.select([self._supervisor, self._ended], [], [], WATCH_LIMIT_S)
            self._supervisor.setblocking(False)
            with contextlib.suppress(OSError):
                self._report = parse_line(self._supervisor.recv(1 << 12))
            status = self._child.kill()
            if self._cgroup is not None:
                cgroup.end(self._cgroup)
            # A supervisor without a report was killed, by the program or for its memory.
            self._report = self._report or (status, "crash")
        return self._report


def _remove_files(home: str, uid: int | None) -> None:
    """Remove a program's folder, and the other files of its user if it had its own."""
    deadline = time.monotonic() + CLEAN_LIMIT_S
    remove(Path(home), deadline)
    if uid is not None:
        remove_files_of(uid, deadline)
