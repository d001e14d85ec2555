"""Namespaces by our own system calls, for machines that allow them but have no bubblewrap.

A script of the standard library alone: `main` takes a JSON description and a command, isolates this
process and becomes the command. The order:

1. New namespaces for mounts, processes, network, IPC and host name; where we are not root, a user
   namespace first, which is what allows the others.
2. A fork, because only a child is in the new process namespace. It is process 1 there: when it ends,
   the kernel ends all processes of the namespace.
3. A new root on a tmpfs: visible paths are bound read-only, then the old root is unmounted.
4. Another fork: process 1 waits for processes that end, its child drops its privileges and becomes the
   command.

Every call is checked: if one fails, the process ends before the command starts.
"""

import ctypes
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE = 442, -100, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 1, 2
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
CAP_KILL, CAP_SETGID, CAP_SETUID, NUM_CAPS = 5, 6, 7, 64
# Mounted over, in the new namespace only: a folder that every Linux has, with no visible path below it.
ROOT = "/sys"
libc = ctypes.CDLL(None, use_errno=True)


def main(argv: list[str]) -> None:
    """Isolate this process and become the command.

    Args:
        argv: a JSON object (`binds`: pairs of outside and inside, `devices`, `links`, `tmp_bytes`,
            `tmp_files`, `may_change_user`), then the command.
    """
    spec, command = json.loads(argv[0]), argv[1:]
    is_root = os.geteuid() == 0
    die_with_parent()
    unshare(is_root)
    if first := os.fork():
        end_with(first)
    die_with_parent()
    build_root(spec)
    if second := os.fork():
        end_with(second)
    kept = {CAP_KILL, CAP_SETGID, CAP_SETUID}
    drop_privileges(kept if is_root and spec["may_change_user"] else set())
    os.execv(command[0], command)


def unshare(is_root: bool) -> None:
    """Enter new namespaces; the next child is the first in the one for processes."""
    uid, gid = os.geteuid(), os.getegid()
    if not is_root:
        check(libc.unshare(CLONE_NEWUSER), "unshare(user)")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    spaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    check(libc.unshare(spaces), "unshare")


def build_root(spec: Mapping[str, Any]) -> None:
    """Make a root with the binds and an empty temporary directory, and move into it."""
    os.umask(0o022)
    mount("", "/", "", MS_REC | MS_PRIVATE)
    mount("tmpfs", ROOT, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for name in ("/proc", "/tmp", "/.outside"):
        Path(ROOT + name).mkdir(parents=True, exist_ok=True)
    mount("proc", ROOT + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    size = f"size={spec['tmp_bytes']},nr_inodes={spec['tmp_files']},mode=1777"
    mount("tmpfs", ROOT + "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, size)
    for outside, inside in spec["binds"]:
        bind(outside, ROOT + inside)
        forbid_writing(ROOT + inside, AT_RECURSIVE)
    for device in spec["devices"]:
        bind(device, ROOT + device)
    for link, target in spec["links"].items():
        Path(ROOT + link).symlink_to(target)
    check(libc.pivot_root(ROOT.encode(), f"{ROOT}/.outside".encode()), "pivot_root")
    os.chdir("/")
    check(libc.umount2(b"/.outside", MNT_DETACH), "umount")
    Path("/.outside").rmdir()
    forbid_writing("/", 0)
    os.chdir("/tmp")


def bind(outside: str, inside: str) -> None:
    """Bind a file or folder to another path."""
    target = Path(inside)
    target.parent.mkdir(parents=True, exist_ok=True)
    make = target.mkdir if Path(outside).is_dir() else target.touch
    make(exist_ok=True)
    mount(outside, inside, "", MS_BIND | MS_REC)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """Mount a file system or bind a path."""
    words = [word.encode() for word in (source, target, kind)]
    check(libc.mount(*words, ctypes.c_ulong(flags), data.encode()), f"mount {source} {target}")


def forbid_writing(path: str, flags: int) -> None:
    """Make a mount read-only; with `AT_RECURSIVE` also the mounts below it."""
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    done = libc.syscall(MOUNT_SETATTR, AT_FDCWD, path.encode(), flags, attributes, size)
    check(done, f"mount_setattr {path}")


def drop_privileges(kept: set[int]) -> None:
    """Drop all other capabilities for every program executed from now on."""
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(no new privileges)")
    for capability in set(range(NUM_CAPS)) - kept:
        # Beyond the last capability of this kernel the call fails, without effect.
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def end_with(child: int) -> NoReturn:
    """Wait for all processes that end, and end with the child's status; a signal is 128 + its number."""
    # The command's channel: it must close when the command ends.
    os.close(0)
    os.close(1)
    ended, status = os.wait()
    while ended != child:
        ended, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends."""
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(parent's death)")


def check(result: int, call: str) -> None:
    """Raise an OSError if a call failed."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")
