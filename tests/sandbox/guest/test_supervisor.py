"""A supervisor ends with its child's status, after all of its processes."""

import json
import socket
import subprocess
import sys
import textwrap
import time
from typing import Any

import pytest

from unmask.sandbox.guest.supervisor import forbid_inspection

PROGRAM = """
    import os, resource, signal, sys, time
    from unmask.sandbox.guest.supervisor import fork_watched
    {before}
    fork_watched([int(sys.argv[1])], False, {"cpu_s": 1, "processes": 8}, "/tmp")
    {body}
"""


def watched(
    body: str, before: str = "", stops_after_s: float | None = None
) -> tuple[int, list[Any]]:
    """Return the status of a supervisor and its report."""
    source = textwrap.dedent(PROGRAM)
    for name, part in (("{before}", before), ("{body}", body)):
        source = source.replace(name, textwrap.dedent(part))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-c", source, str(theirs.fileno())]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, pass_fds=[theirs.fileno()])
        theirs.close()
        if stops_after_s is not None:
            time.sleep(stops_after_s)
            ours.shutdown(socket.SHUT_WR)
        # It is open as long as one of the processes lives.
        process.communicate(timeout=60)
        return process.returncode, json.loads(ours.recv(100))


@pytest.mark.parametrize(
    ("body", "status"),
    [("pass", 0), ("sys.exit(3)", 3), ("os.kill(os.getpid(), signal.SIGKILL)", 137)],
)
def test_the_status_of_the_child_is_handed_on(body: str, status: int):
    assert watched(body) == (status, [status if status < 128 else 128 - status, None])


ORPHANS = """
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(1000)
            os._exit(0)
"""


def test_orphans_end_before_the_supervisor():
    assert watched(ORPHANS) == (0, [0, None])


def test_orphans_made_before_the_supervisor_starts_watching_end_too():
    slow = """
        fork = os.fork

        def fork_slowly():
            child = fork()
            time.sleep(0.5 if child else 0)
            return child

        os.fork = fork_slowly
    """
    body = "os.fork = fork\n" + textwrap.dedent(ORPHANS)
    assert watched(body, slow) == (0, [0, None])


def test_all_ends_when_the_control_is_closed():
    assert watched(ORPHANS + "\n    time.sleep(1000)", stops_after_s=0.5) == (137, [-9, None])


BURN = """
    def burn(seconds):
        start = time.process_time()
        while time.process_time() - start < seconds:
            pass
"""
CHILDREN_IN_TURN = """
    for _ in range(4):
        if os.fork() == 0:
            burn(0.4)
            os._exit(0)
        os.wait()
"""
CHILDREN_OF_CHILDREN = """
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                burn(0.5)
            os._exit(0)
    time.sleep(30)
"""


@pytest.mark.parametrize("body", ["burn(30)", CHILDREN_IN_TURN, CHILDREN_OF_CHILDREN])
def test_processor_time_is_that_of_all_processes(body: str):
    status, report = watched(body, BURN)
    assert report[1] == "timeout", (status, report)


def test_processor_time_below_the_limit_is_no_failure():
    body = CHILDREN_IN_TURN.replace("0.4", "0.05")
    assert watched(body, BURN) == (0, [0, None])


def test_too_many_processes_are_a_crash():
    body = """
        for _ in range(20):
            if os.fork() == 0:
                time.sleep(1000)
        time.sleep(1000)
    """
    assert watched(body) == (137, [-9, "crash"])


def test_the_child_has_no_descriptor_of_the_supervisor():
    body = """
        try:
            os.fstat(int(sys.argv[1]))
        except OSError:
            sys.exit(5)
    """
    assert watched(body) == (5, [5, None])


def test_macos_has_no_call_to_forbid_inspection(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("unmask.sandbox.guest.supervisor.libc", object())
    monkeypatch.setattr(sys, "platform", "darwin")
    forbid_inspection()
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(AttributeError, match="prctl"):
        forbid_inspection()
