"""Landlock rules: which files a process and its children may access, and which processes they may signal.

With isolation `process` they are the only restriction on files; with namespaces they keep `/proc`
read-only, so that a program cannot lower its `oom_score_adj`. A check takes one step per folder up to the
one named by a rule, so a deep tree of folders takes quadratic time; for a program with its own user,
making folders is therefore not checked, because that user's files are removed afterwards. A process with
rules cannot trace one with other rules nor, from Linux 6.12 on, signal it, even of the same user. Kernels
before 5.13, and some that were built without it, have no Landlock; then `abi` returns 0, and `restrict`
does nothing.
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
# Number of rights on files in each version, from version 1 on.
NUM_RIGHTS = (13, 14, 15, 15, 16)
# From version 6 on: abstract Unix sockets and signals.
SCOPES, SCOPED_ABI = 3, 6
libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """Return the Landlock version of this kernel; 0 if it has none."""
    return max(0, libc.syscall(CREATE, None, ctypes.c_size_t(0), ABI_FLAG))


Bounded = Literal["all", "all but new folders", "writing"]


def restrict(paths: Mapping[str, Sequence[str]], bounded: Bounded) -> None:
    """Restrict this process, which must have set "no new privileges" before.

    Args:
        paths: allowed paths: `read` (and execute) and `write` (everything), each with all paths below,
            and `use` (read and write existing files).
        bounded: which other accesses are refused.
    """
    version = abi()
    # Version 1 forbids moving files between folders, so it is used only if nothing else restricts files.
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
            file = os.open(place, os.O_PATH | os.O_CLOEXEC)
            mask = handled if stat.S_ISDIR(os.fstat(file).st_mode) else handled & FILE_RIGHTS
            rule = struct.pack("=Qi", rights[kind] & mask, file)
            _check(libc.syscall(ADD, rules, PATH_BENEATH, rule, 0))
            os.close(file)
    _check(libc.syscall(RESTRICT, rules, 0))
    os.close(rules)


def _check(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"landlock: {os.strerror(error)}")
    return result
