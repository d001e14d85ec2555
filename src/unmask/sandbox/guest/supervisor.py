"""A trusted parent of the program's processes: it adds up what they use, and ends them all.

The kernel's limit on processor time holds for one process, and a process can leave its group by starting
a session. So the supervisor becomes the parent of all orphans below it. About twenty times a second it
adds up the processor time and counts processes and files. At the end it kills the remaining processes,
and reports on a channel that the program does not have.

The remaining processes are killed child by child. Their ids cannot have been reused, because the id of a
child stays taken until the child is waited for. No child is waited for before all have ended, so the
limit on processes prevents new ones from taking the place of ended ones.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

INTERVAL_MS = 50
END_LIMIT_S = 5.0
# Empty files also take memory: with its name, each about a kilobyte.
MAX_FILES = 32_768
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
# Fields of /proc/PID/stat after the name: user and system time, own and of ended children; threads.
TIMES, THREADS = slice(11, 15), 17
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
libc = ctypes.CDLL(None)


def forbid_inspection() -> None:
    """Deny other processes of the same user access to memory and descriptors of this one, until `exec`."""
    if sys.platform == "linux":  # macOS, where verifiers run too, has no prctl
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def fork_watched(
    inherited: Sequence[int], has_cgroup: bool, limits: Mapping[str, int], tmpfs: str
) -> None:
    """Fork: the child returns; this process supervises it, ends its remaining processes, and reports.

    The report is one line of JSON: the child's status as `subprocess` has it, and `timeout`, `crash`
    or null for the limit that was exceeded.

    Args:
        inherited: descriptors that the child closes; the first is a socket, and when its other end is
            closed for writing, all processes are ended.
        has_cgroup: whether the last is the list of a cgroup's processes, which the child joins.
        limits: `cpu_s` and `processes`, for all processes together.
        tmpfs: a file system in memory where the program may make files, empty ones too.
    """
    # Before the fork: the child has a copy of this memory.
    forbid_inspection()
    # Before the fork: an earlier orphan would get another parent.
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # If it were ignored, the time of ended children would not be counted.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        if has_cgroup:
            os.write(inherited[-1], b"0")
        for file in inherited:
            os.close(file)
        return
    signal.signal(signal.SIGTERM, _stop)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # The channel must close when the program ends, so this process does not keep it open.
    sink = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(sink, stream)
    failure = None
    with contextlib.suppress(InterruptedError):
        failure = _watch(child, inherited[0], limits, tmpfs)
    _end(child, inherited[0], failure, limits["cpu_s"])


def _stop(*_: object) -> NoReturn:
    raise InterruptedError


def _watch(child: int, control: int, limits: Mapping[str, int], tmpfs: str) -> str | None:
    """Wait until the child has ended, the control is closed, or a limit is exceeded; return the failure."""
    ended = os.pidfd_open(child)
    num_files = _num_files(tmpfs)
    while not select.select([ended, control], [], [], INTERVAL_MS / 1000)[0]:
        for orphan in set(children()) - {child}:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(orphan, os.WNOHANG)
        if failure := _excess(limits):
            return failure
        if _num_files(tmpfs) - num_files > MAX_FILES:
            return "crash"
    return None


def _excess(limits: Mapping[str, int]) -> str | None:
    """Return the failure if a limit is exceeded, else None."""
    # Ended children first: a process that ends during the loop must not count twice.
    seconds, threads = _children_s(), 0
    for stat in _descendants():
        seconds += sum(map(int, stat[TIMES])) / TICKS_PER_S
        threads += int(stat[THREADS])
    if seconds > limits["cpu_s"]:
        return "timeout"
    # The kernel enforces the limit unless it also counts other programs. The factor of two is needed
    # because a process that ends and its successor may both be counted.
    return "crash" if threads > 2 * limits["processes"] else None


def _num_files(tmpfs: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        found = os.statvfs(tmpfs)
        return found.f_files - found.f_ffree
    return 0


def _end(child: int, control: int, failure: str | None, cpu_s: int) -> NoReturn:
    """End all processes, report, and end with the child's status."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    status = _kill_all(child)
    if status == -signal.SIGXCPU or _children_s() > cpu_s:
        failure = "timeout"
    with contextlib.suppress(OSError):
        os.write(control, json.dumps([status, failure]).encode() + b"\n")
    os._exit(status if status >= 0 else 128 - status)


def _kill_all(child: int) -> int:
    """Kill and wait for all processes below this one, and return the child's status."""
    deadline = time.monotonic() + END_LIMIT_S
    status = -signal.SIGKILL
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            look = os.WEXITED | os.WNOHANG | os.WNOWAIT  # leaves an ended child to be waited for
            if running := [pid for pid in children() if os.waitid(os.P_PID, pid, look) is None]:
                for pid in running:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.0005)
                continue
            ended, code = os.waitpid(-1, os.WNOHANG)
            status = os.waitstatus_to_exitcode(code) if ended == child else status
    return status


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _descendants() -> Iterator[list[str]]:
    """Yield the fields of `/proc/PID/stat` after the name for each process below this one, parents first."""
    pending = children()
    while pending:
        folder = f"/proc/{pending.pop()}"
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield _read(f"{folder}/stat").rpartition(")")[2].split()
            for thread in os.listdir(f"{folder}/task"):  # noqa: PTH208 - pathlib is slow to load
                pending += map(int, _read(f"{folder}/task/{thread}/children").split())


def children() -> list[int]:
    """Return the ids of the children of this process."""
    return [int(pid) for pid in _read("/proc/thread-self/children").split()]


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as above
        return file.read()


def die_with(parent: int) -> None:
    """Ask the kernel to end this process with its parent, and to give it no new privileges."""
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
