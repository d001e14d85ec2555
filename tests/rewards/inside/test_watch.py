"""A watcher ends with its child's status, and only when nothing of it is left."""

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import os, signal, sys, time
    from unmask.rewards.inside.watch import fork_watched
    {before}
    fork_watched(None)
    {body}
"""


def watched(body: str, before: str = "") -> subprocess.CompletedProcess[bytes]:
    source = textwrap.dedent(PROGRAM)
    for name, part in (("{before}", before), ("{body}", body)):
        source = source.replace(name, textwrap.dedent(part))
    return subprocess.run([sys.executable, "-c", source], capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("body", "status"),
    [("pass", 0), ("sys.exit(3)", 3), ("os.kill(os.getpid(), signal.SIGKILL)", 137)],
)
def test_the_status_of_the_child_is_handed_on(body: str, status: int):
    assert watched(body).returncode == status


ORPHANS = """
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(1000)
            os._exit(0)
"""


def test_orphans_end_before_the_watcher():
    # Standard error stays open as long as one of them lives: the call would not return.
    assert watched(ORPHANS).returncode == 0


def test_orphans_that_come_before_the_watcher_goes_on_end_too():
    slow = """
        fork = os.fork

        def fork_slowly():
            child = fork()
            time.sleep(0.5 if child else 0)
            return child

        os.fork = fork_slowly
    """
    body = "os.fork = fork\n" + textwrap.dedent(ORPHANS)
    assert watched(body, slow).returncode == 0
