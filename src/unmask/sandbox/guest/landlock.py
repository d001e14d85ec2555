"""Rules of the kernel's Landlock: what a process, and all it starts, may do to files and others.

At level `process` they are the only bound on files; behind namespaces they keep `/proc` read-only,
so that a program cannot lower its `oom_score_adj`. A check costs a step for each folder up to the one
that a rule names, so a deep tree of folders costs its square; where a program has a user of its own,
making folders is not checked, because the user's are removed. A process with rules can neither trace
nor, from Linux 6.12 on, signal one with other rules, even of the same user. Kernels before 5.13, and
some that were built without it, have no Landlock; then nothing changes, and `abi` returns 0.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Mapping, Sequence
from typing import Literal

CREATE, ADD, RESTRICT = 444, 445, 446
ABI_FLAG, PATH_BENEATH = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
READ = EXECUTE | READ_FILE | READ_DIR
MAKE_DIR, REFER, REFER_ABI = 1 << 7, 1 << 13, 2
# How many rights on files each version has, the first version first.
NUM_RIGHTS = (13, 14, 15, 15, 16)
# From version 6 on: abstract Unix sockets and signals.
SCOPES, SCOPED_ABI = 3, 6
libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """Return the version of Landlock that this kernel has; 0 where it has none."""
    return max(0, libc.syscall(CREATE, None, ctypes.c_size_t(0), ABI_FLAG))


Bounded = Literal["all", "all but new folders", "writing"]


def restrict(paths: Mapping[str, Sequence[str]], bounded: Bounded) -> None:
    """Lay rules on this process; it must have given up gaining privileges before.

    Args:
        paths: `read` (and execute) and `write` (everything), each for what lies below, and `use`
            (read and write existing files).
        bounded: what else is refused.
    """
    version = abi()
    # The first version forbids every move from folder to folder, so it is used only where nothing else is.
    if version < (REFER_ABI if bounded == "writing" else 1):
        return
    everything = (1 << NUM_RIGHTS[min(version, len(NUM_RIGHTS)) - 1]) - 1
    handled = {
        "all": everything,
        "all but new folders": everything & ~MAKE_DIR,
        "writing": WRITE_FILE | REFER,
    }[bounded]
    rights = {"read": READ, "use": FILE_RIGHTS | READ_DIR, "write": everything}
    attributes = struct.pack("=QQQ", handled, 0, SCOPES if version >= SCOPED_ABI else 0)
    rules = _check(libc.syscall(CREATE, attributes, ctypes.c_size_t(len(attributes)), 0))
    for kind, places in paths.items():
        for place in places:
            _allow(rules, place, rights[kind] & handled)
    _check(libc.syscall(RESTRICT, rules, 0))
    os.close(rules)


def _allow(rules: int, path: str, rights: int) -> None:
    file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not stat.S_ISDIR(os.fstat(file).st_mode):
        rights &= FILE_RIGHTS
    _check(libc.syscall(ADD, rules, PATH_BENEATH, struct.pack("=Qi", rights, file), 0))
    os.close(file)


def _check(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"landlock: {os.strerror(error)}")
    return result
