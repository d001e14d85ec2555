"""The lock of a run directory: one process writes a run at a time.

Two processes that resumed the same run (a job queued again while its first copy still saved) would cut
each other's files back. The operating system releases the lock when its process ends, however that
ends; the file stays behind and does not lock by existing.
"""

import os
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"


def lock(directory: Path) -> FileLock:
    """Return the held lock of a run directory; it ends with `release()` or with the process.

    On a file system without locks the returned lock is not held.

    Raises:
        ValueError: another process holds it; names the process.
    """
    path = directory / LOCK
    held = FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        held.acquire()
    except Timeout:
        holder = path.read_text(encoding="utf-8").strip() or "another process"
        raise ValueError(
            f"run.dir = {directory}: {holder} is writing this run; let it end, stop it, or give "
            "another run.dir=..."
        ) from None
    except OSError:  # the file system has no locks
        return held
    path.write_text(f"process {os.getpid()} on {os.uname().nodename}\n", encoding="utf-8")
    return held
