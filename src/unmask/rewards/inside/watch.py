"""A process that stands over another one and outlives everything that one starts.

Where there is no namespace to end, a program can leave processes behind: one that starts a session
of its own is in no group of ours any more. The watcher is made the parent of all orphans below it,
so they cannot hide, and it ends only when nothing is left.
"""

import contextlib
import ctypes
import os
import signal
import time

# A list of children that is read while some of them end may miss others.
LOOK_AGAIN_S = 0.01
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38


def fork_watched(uid: int | None) -> None:
    """Fork: the child returns; this process watches it to its end, ends what it leaves, and ends with its status.

    Args:
        uid: the user that only the child's processes have; None where they share ours.
    """
    libc = ctypes.CDLL(None)
    # Before there is a child: an orphan that comes first would be nobody's.
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        return
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    # Held open here, the channel would not close with the program.
    sink = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(sink, stream)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if uid is not None:
        end_all_of(uid)
    with contextlib.suppress(ChildProcessError):
        while True:
            for orphan in children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(orphan, signal.SIGKILL)
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(LOOK_AGAIN_S)
    os._exit(status if status >= 0 else 128 - status)


def end_all_of(uid: int) -> None:
    """Kill all processes of a user at one blow, which no fork escapes."""
    killer = os.fork()
    if killer == 0:
        os.setresuid(uid, uid, uid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        os._exit(0)
    os.waitpid(killer, 0)


def children() -> list[int]:
    """Return the processes whose parent this one is."""
    with open("/proc/thread-self/children") as file:  # noqa: PTH123 - pathlib is slow to load
        return [int(pid) for pid in file.read().split()]


def die_with(parent: int) -> None:
    """Ask the kernel to end this process when its parent ends, and to give it no privilege again."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
