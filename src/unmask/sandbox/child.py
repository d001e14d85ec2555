"""A child process and the socket over which it exchanges lines of JSON with this process.

Used for programs (`sandbox.process`) and for the workers that grade (`sandbox.verifier_pool`). The
child has its end of the socket as standard input, for both directions; nothing is pickled. Every wait
has a deadline.
"""

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from typing import Any

RECEIVED_BYTES = 1 << 20


class Child:
    """A child process in a session of its own.

    Attributes:
        process: the child.
        channel: this end of the socket.
        deadline: when waiting ends, by the monotonic clock.
        unread: bytes received after the last complete line.
    """

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        """Start the process.

        Args:
            command: the program and its arguments.
            options: further arguments of `subprocess.Popen`.
        """
        self.deadline = math.inf
        self.unread = bytearray()
        self.channel, theirs = socket.socketpair()
        with theirs:
            # In its own session Ctrl-C does not reach it, and `kill` ends its children too.
            self.process = subprocess.Popen(
                command, stdin=theirs.fileno(), start_new_session=True, **options
            )

    def wait_at_most(self, seconds: float) -> None:
        """Set the deadline, counted from now."""
        self.deadline = time.monotonic() + seconds

    def seconds_left(self) -> float:
        """Return the time until the deadline; a timeout of 0 would mean not to block at all."""
        return max(0.001, self.deadline - time.monotonic())

    def send(self, message: object) -> None:
        """Send one line of JSON.

        Raises:
            TimeoutError: the child does not read it before the deadline.
            OSError: the child has ended.
        """
        self.channel.settimeout(self.seconds_left())
        self.channel.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, max_bytes: float = math.inf) -> list[bytes]:
        """Return the complete lines that arrive next, at least one.

        Raises:
            TimeoutError: there is none before the deadline.
            EOFError: the child has closed its end.
            OverflowError: the lines, or the beginning of one, exceed `max_bytes`.
        """
        data = b""
        while b"\n" not in data:
            self.channel.settimeout(self.seconds_left())
            try:
                data = self.channel.recv(RECEIVED_BYTES)
            except ConnectionError:  # it ended with a message of ours unread
                data = b""
            if not data:
                raise EOFError
            self.unread += data
            if len(self.unread) > max_bytes:
                raise OverflowError
        *lines, self.unread = self.unread.split(b"\n")
        return [bytes(line) for line in lines]

    def kill(self) -> int:
        """Kill all processes of its session, and return the exit status of the child itself."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()
