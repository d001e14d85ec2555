"""The user that a program runs as where we are root, and what it leaves in the file system.

A user id is leased: no two programs have one at a time, and none has one that anything else on this
machine uses. The lease is a lock on one byte of a file that only root can open, and every process
that is trusted to end the program holds it, so that it lasts as long as any of them.
"""

import contextlib
import fcntl
import itertools
import os
import pwd
import secrets
import stat
import struct
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

FIRST_UID, NUM_UIDS = 40_000, 20_000
LEASES = Path("/run/unmask-users")
# Where every user may make files; with Landlock, only empty folders.
PUBLIC = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock")


@dataclass(frozen=True, slots=True)
class Lease:
    """A user id that is ours until `lock`, a descriptor, is closed by all who have it."""

    uid: int
    lock: int


def lease_user() -> Lease:
    """Lease a user id; only root can.

    Raises:
        ValueError: the file of the leases is another user's, or no user id is free.
    """
    lock = os.open(LEASES, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    found = os.fstat(lock)
    if found.st_uid != 0 or stat.S_IMODE(found.st_mode) != 0o600:
        os.close(lock)
        raise ValueError(f"{LEASES} must be root's, with mode 0600: remove it")
    start = secrets.randbelow(NUM_UIDS)
    for offset in range(NUM_UIDS):
        uid = FIRST_UID + (start + offset) % NUM_UIDS
        if _is_locked(lock, uid):
            if not _is_in_use(uid):
                return Lease(uid, lock)
            _lock(lock, fcntl.F_UNLCK, uid)
    os.close(lock)
    raise ValueError(
        f"every user id from {FIRST_UID} to {FIRST_UID + NUM_UIDS - 1} is in use: programs need one"
    )


def _is_locked(lock: int, uid: int) -> bool:
    """Lock a user id, and say whether it was free."""
    with contextlib.suppress(BlockingIOError, PermissionError):
        _lock(lock, fcntl.F_WRLCK, uid)
        return True
    return False


def _lock(lock: int, kind: int, uid: int) -> None:
    # A lock of this kind is the open file's, not the process's: who inherits the file has it too.
    what = struct.pack("hhqqi", kind, os.SEEK_SET, uid, 1, 0)
    fcntl.fcntl(lock, fcntl.F_OFD_SETLK, what)


def _is_in_use(uid: int) -> bool:
    """Say whether a user has a name or a process."""
    with contextlib.suppress(KeyError):
        pwd.getpwuid(uid)
        return True
    with contextlib.suppress(ProcessLookupError):
        os.getpriority(os.PRIO_USER, uid)
        return True
    return False


def remove_files_of(uid: int, deadline: float) -> None:
    """Remove what a leased user has left where every user may make files, until the deadline."""
    for place in PUBLIC:
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_uid == uid:
                    remove(Path(entry.path), deadline)


def remove(path: Path, deadline: float) -> bool:
    """Remove a file, or a folder whose owner was hostile, until the deadline of the monotonic clock.

    Folders are moved up into the outermost one and emptied there, so that depth costs nothing; one that
    is closed to its owner is opened, and no link is followed.

    Returns:
        Whether it is gone.
    """
    with contextlib.suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return True
        fresh = (f"{secrets.token_hex(8)}-{number}" for number in itertools.count())
        with _opened(path) as outermost:
            while names := os.listdir(outermost):  # noqa: PTH208 - pathlib has no descriptors
                for name in names:
                    if time.monotonic() > deadline:
                        return False
                    _take_apart(name, outermost, fresh, deadline)
        path.rmdir()
    return not os.path.lexists(path)


def _take_apart(name: str, outermost: int, fresh: Iterator[str], deadline: float) -> None:
    """Remove a file or a folder, whose own folders are moved up; what is left at the deadline stays."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=outermost, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=outermost)
        return
    with _opened(name, outermost) as folder, os.scandir(folder) as entries:
        for entry in entries:
            if time.monotonic() > deadline:
                return
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
                continue
            with _opened(entry.name, folder):  # which lets its owner move it
                os.rename(entry.name, next(fresh), src_dir_fd=folder, dst_dir_fd=outermost)
    os.rmdir(name, dir_fd=outermost)


@contextlib.contextmanager
def _opened(path: str | Path, above: int | None = None) -> Generator[int]:
    """Open a folder to read and change, which its owner may have closed to itself."""
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    place = os.open(path, flags | os.O_PATH, dir_fd=above)
    try:
        if os.fstat(place).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            Path(f"/proc/self/fd/{place}").chmod(stat.S_IRWXU)
        folder = os.open(".", flags, dir_fd=place)
    finally:
        os.close(place)
    try:
        yield folder
    finally:
        os.close(folder)
