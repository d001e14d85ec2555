"""The kernel's limits on one process and its user, set as hard limits before a program runs."""

import contextlib
import ctypes
import os
import resource
from collections.abc import Mapping

KEYCTL = {"x86_64": 250, "aarch64": 219}
KEYCTL_JOIN_SESSION_KEYRING = 1
MAX_FILES_OPEN, MAX_SIGNALS_QUEUED = 128, 1024


def be_killed_first() -> None:
    """Ask the kernel to kill this process and its children first when memory runs out."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123 - pathlib is slow to load
        file.write("1000")


def lock_in(limits: Mapping[str, int], uid: int | None) -> None:
    """Set all limits, take an empty keyring, and become a user without files.

    Args:
        limits: `cpu_s`, `memory`, `file`, `processes`; sizes in bytes.
        uid: the user and group to become; None keeps them.
    """
    # The kernel counts all processes of the user, including those of other programs.
    others = 0 if uid is not None else num_threads_of(os.getuid()) - 1
    # The soft limit on time ends the process by SIGXCPU, which names the reason.
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu_s"], limits["cpu_s"] + 1))
    for kind, value in (
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_FSIZE, limits["file"]),
        (resource.RLIMIT_NPROC, limits["processes"] + others),
        (resource.RLIMIT_NOFILE, MAX_FILES_OPEN),
        (resource.RLIMIT_SIGPENDING, MAX_SIGNALS_QUEUED),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
    leave_session_keyring()
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def leave_session_keyring() -> None:
    """Take a new session keyring: the kernel also uses the keys of the old one, for file systems."""
    number = KEYCTL.get(os.uname().machine)
    # Fails if a container forbids the call or the user has too many keys; `syscalls` refuses calls on
    # keys in any case.
    if number:
        ctypes.CDLL(None).syscall(number, KEYCTL_JOIN_SESSION_KEYRING, None)


def num_threads_of(uid: int) -> int:
    """Return the number of threads of a user's processes, as far as `/proc` shows them."""
    total = 0
    for name in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - as above
        with contextlib.suppress(OSError), open(f"/proc/{name}/status") as file:  # noqa: PTH123
            fields = dict(line.split(":", 1) for line in file if line[:4] in ("Uid:", "Thre"))
            total += int(fields["Threads"]) if int(fields["Uid"].split()[0]) == uid else 0
    return total
