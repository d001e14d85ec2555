"""One process writes a run at a time.

Two that went on with the same run, a job that was queued again while its first copy still saved, would
cut each other's files back. The system drops the lock with the process that holds it, however that
ends; the file stays behind and means nothing.
"""

import fcntl
import os
from pathlib import Path
from typing import TextIO

LOCK = ".lock"


def lock(directory: Path) -> TextIO:
    """Lock a run directory until the returned file is closed, or the process ends.

    On a file system that keeps no locks nothing is locked.

    Raises:
        ValueError: another process holds it.
    """
    file = (directory / LOCK).open("a+")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # either, says POSIX
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise ValueError(
            f"run.dir = {directory}: {holder} is writing this run; let it end, stop it, or give "
            "another run.dir=..."
        ) from None
    except OSError:
        return file
    file.truncate(0)
    file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
    file.flush()
    return file
