"""A watcher ends with its child's status, and only when nothing of it is left."""

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import os, signal, sys, time
    from unmask.rewards.inside.watch import watch
    watch(os.fork(), None)
    {body}
"""


def watched(body: str) -> subprocess.CompletedProcess[bytes]:
    source = textwrap.dedent(PROGRAM).replace("{body}", textwrap.dedent(body))
    return subprocess.run([sys.executable, "-c", source], capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("body", "status"),
    [("pass", 0), ("sys.exit(3)", 3), ("os.kill(os.getpid(), signal.SIGKILL)", 137)],
)
def test_the_status_of_the_child_is_handed_on(body: str, status: int):
    assert watched(body).returncode == status


def test_orphans_end_before_the_watcher():
    # Standard error stays open as long as one of them lives: the call would not return.
    done = watched(
        """
        for _ in range(3):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(1000)
                os._exit(0)
        """
    )
    assert done.returncode == 0
