"""Lines are exchanged within a deadline; a child that ends, stalls or sends too much raises its own error."""

import signal
import sys
import textwrap
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from unmask.sandbox.child import Child

ECHO = """
    import json, os, time
    questions = os.fdopen(os.dup(0), "rb")
    for line in questions:
        for part in json.loads(line):
            os.write(0, part.encode())
"""


@contextmanager
def child(program: str = ECHO) -> Generator[Child]:
    started = Child([sys.executable, "-c", textwrap.dedent(program)])
    started.wait_at_most(60.0)
    try:
        yield started
    finally:
        started.kill()
        started.channel.close()


def test_complete_lines_are_returned_and_the_rest_is_kept() -> None:
    with child() as echo:
        echo.send(["one\ntwo\nthr"])
        assert (echo.receive(), echo.unread) == ([b"one", b"two"], b"thr")
        echo.send(["ee\n"])
        assert (echo.receive(), echo.unread) == ([b"three"], b"")


def test_a_message_larger_than_the_socket_buffer_crosses() -> None:
    with child() as echo:
        echo.send(["x" * 2**21 + "\n"])
        assert sum(map(len, echo.receive())) == 2**21


def test_waiting_ends_at_the_deadline() -> None:
    with child("import time\ntime.sleep(600)") as silent:
        silent.wait_at_most(0.2)
        with pytest.raises(TimeoutError):
            silent.receive()
        with pytest.raises(TimeoutError):
            silent.send("x" * 2**24)  # more than a socket holds


def test_half_a_line_is_no_line() -> None:
    with child() as echo:
        echo.send(["half"])
        echo.wait_at_most(1.0)
        with pytest.raises(TimeoutError):
            echo.receive()


@pytest.mark.parametrize("program", ["", "import os, time\nos.write(0, b'half')"])
def test_the_end_of_the_child_is_the_end_of_its_lines(program: str) -> None:
    with child(program) as ended:
        ended.send("never read")
        with pytest.raises(EOFError):
            ended.receive()


def test_answers_sent_before_the_end_are_received() -> None:
    with child("import os\nos.write(0, b'last\\n')") as ended:
        ended.send("never read")
        ended.process.wait()
        assert ended.receive() == [b"last"]
        with pytest.raises(OSError):
            ended.send("too late")


def test_more_bytes_than_allowed_are_refused() -> None:
    with child() as echo:
        echo.send(["x" * 1000])
        with pytest.raises(OverflowError):
            echo.receive(max_bytes=999)


def test_killing_a_child_ends_its_children_and_returns_its_status() -> None:
    with child("import os, time\nos.fork()\nos.write(0, b'x\\n')\ntime.sleep(600)") as parent:
        received: list[bytes] = []
        while len(received) < 2:
            received += parent.receive()
        assert parent.kill() == -signal.SIGKILL
        with pytest.raises(EOFError):  # neither process holds the other end any more
            parent.receive()
