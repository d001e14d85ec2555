"""A cgroup for one program, if this machine allows one: the kernel then counts all of its memory.

This needs a cgroup2 file system where this process may make cgroups with the controllers `memory` and
`pids`: root has one under systemd, a normal user below a delegated session, a container rarely. Another
file system at the same path also allows folders to be made, so a process is moved into a trial cgroup
and its counters are checked. Controllers that are off are not switched on. Without a cgroup, the filter
of system calls (`guest.syscalls`) and the other limits bound memory; they also hold with a cgroup.
"""

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

END_LIMIT_S = 2.0


def make(memory: int, processes: int) -> Path | None:
    """Make a cgroup limited to a number of bytes and processes; None if this machine allows none."""
    above = parent()
    return None if above is None else _make(above, memory, processes)


def end(cgroup: Path) -> None:
    """Kill the processes of a cgroup, and remove it if it becomes empty in time."""
    deadline = time.monotonic() + END_LIMIT_S
    with contextlib.suppress(OSError):
        (cgroup / "cgroup.kill").write_text("1")
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            cgroup.rmdir()
            return
        time.sleep(0.001)


@cache
def parent() -> Path | None:
    """Return the folder where cgroups that count memory and processes can be made, found by trial."""
    for place in _candidates():
        with contextlib.suppress(OSError, ValueError):
            if _counts(place):
                return place
    return None


def _candidates() -> Iterator[Path]:
    """Yield the parent of this process's cgroup, which has no processes itself, and the root cgroup."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in (Path(words[4]) for words in mounts if words[words.index("-") + 1] == "cgroup2"):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::/") and line != "0::/":
                yield (mount / line.removeprefix("0::/")).parent
        yield mount


def _counts(place: Path) -> bool:
    trial = _make(place, 2**26, 2)
    process = subprocess.Popen(["sleep", "60"])
    try:
        (trial / "cgroup.procs").write_text(str(process.pid))
        counters = [int((trial / name).read_text()) for name in ("pids.current", "memory.max")]
        return counters == [1, 2**26]
    finally:
        process.kill()
        process.wait()
        end(trial)


def _make(above: Path, memory: int, processes: int) -> Path:
    cgroup = above / f"unmask-{os.getpid()}-{secrets.token_hex(4)}"
    cgroup.mkdir()
    try:
        limits = {"memory.max": memory, "memory.oom.group": 1, "pids.max": processes}
        if (cgroup / "memory.swap.max").exists():  # a kernel may count no swap
            limits["memory.swap.max"] = 0
        for name, value in limits.items():
            # Mode "r+" does not make the file, as another file system would allow.
            with (cgroup / name).open("r+") as file:
                file.write(str(value))
    except OSError:
        cgroup.rmdir()
        raise
    return cgroup
