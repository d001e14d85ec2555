"""The kernel's limits on a process, as the process reads them."""

import os
import subprocess
import sys
import threading

from tests.sandboxes import ready
from unmask.sandbox.guest.limits import num_threads_of
from unmask.sandbox.isolation import best_backend
from unmask.sandbox.limits import Limits

PROGRAM = """
import resource
def limits():
    names = ("CPU", "AS", "FSIZE", "NPROC", "NOFILE", "SIGPENDING", "MSGQUEUE", "CORE")
    return {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in names}
"""


def test_every_limit_is_set_hard():
    with ready(best_backend(), Limits(2, 60.0, 2**29, 2**20, 2**20, 5)) as sandbox:
        sandbox.load(PROGRAM)
        found = sandbox.call("limits")
    assert found.pop("CPU") == (2, 3)
    num_processes, hard = found.pop("NPROC")
    assert num_processes == hard
    # As root the user is the program's own; else those behind the same namespaces count too.
    assert num_processes == 5 if os.geteuid() == 0 else 5 <= num_processes <= 10
    assert found["AS"] == (2**29, 2**29)
    assert found["FSIZE"] == (2**20, 2**20)
    assert found["MSGQUEUE"] == found["CORE"] == (0, 0)
    assert found["NOFILE"][1] <= 128 and found["SIGPENDING"][1] <= 1024


def test_a_lower_limit_of_the_machine_stays():
    script = """
import resource
from unmask.sandbox.guest.limits import lock_in
resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))
lock_in({"cpu_s": 5, "memory": 2**30, "file": 2**20, "processes": 4}, None)
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (50, 50)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_threads_of_a_user_are_counted():
    before = num_threads_of(os.getuid())
    assert before >= threading.active_count()
    assert num_threads_of(2**31 - 5) == 0
