"""The users that programs run as when this process is root, and the removal of their files.

A user id is leased: two programs never have the same one at a time, and none has one that is otherwise
in use on this machine. A lease is a lock on one byte of a file that only root can open. Every process
that is responsible for ending the program holds the lock, so it lasts as long as any of them.
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
# Folders where every user may make files; with Landlock, only empty folders.
PUBLIC = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock")


@dataclass(frozen=True, slots=True)
class Lease:
    """A user id, leased until all processes that have the descriptor `lock` have closed it."""

    uid: int
    lock: int


def lease_user() -> Lease:
    """Lease a user id, which requires root.

    Raises:
        ValueError: the file of the leases belongs to another user, or no user id is free.
    """
    lock = os.open(LEASES, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    found = os.fstat(lock)
    if found.st_uid != 0 or stat.S_IMODE(found.st_mode) != 0o600:
        os.close(lock)
        raise ValueError(f"{LEASES} must belong to root, with mode 0600: remove it")
    # A random start, so that an id is rarely used again soon.
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
    """Lock a user id, and return whether it was free."""
    with contextlib.suppress(BlockingIOError, PermissionError):
        _lock(lock, fcntl.F_WRLCK, uid)
        return True
    return False


def _lock(lock: int, kind: int, uid: int) -> None:
    # This kind of lock belongs to the open file, so processes that inherit the descriptor hold it too.
    what = struct.pack("hhqqi", kind, os.SEEK_SET, uid, 1, 0)
    fcntl.fcntl(lock, fcntl.F_OFD_SETLK, what)


def _is_in_use(uid: int) -> bool:
    """Return whether a user id has a name or a process."""
    with contextlib.suppress(KeyError):
        pwd.getpwuid(uid)
        return True
    with contextlib.suppress(ProcessLookupError):
        os.getpriority(os.PRIO_USER, uid)
        return True
    return False


def remove_files_of(uid: int, deadline: float) -> None:
    """Remove the files of a leased user from the public folders, until the deadline."""
    for place in PUBLIC:
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_uid == uid:
                    remove(Path(entry.path), deadline)


def remove(path: Path, deadline: float) -> bool:
    """Remove a file or folder of a hostile owner, until the deadline of the monotonic clock.

    Inner folders are moved into the outermost one and emptied there, so the time does not grow with the
    depth. Missing permissions of the owner are restored, and links are not followed.

    Returns:
        Whether it was removed.
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
    """Remove a file, or a folder after moving its inner folders up; stop at the deadline."""
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
            with _opened(entry.name, folder):  # restores the permissions needed to move it
                os.rename(entry.name, next(fresh), src_dir_fd=folder, dst_dir_fd=outermost)
    os.rmdir(name, dir_fd=outermost)


@contextlib.contextmanager
def _opened(path: str | Path, above: int | None = None) -> Generator[int]:
    """Open a folder for reading and writing, restoring the permissions of its owner."""
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    # O_PATH needs no permission on the folder itself, and the descriptor cannot be exchanged for a link.
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
