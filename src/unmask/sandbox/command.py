"""The command that starts an isolated process.

| isolation | backend | what the process can access |
|---|---|---|
| `namespaces` | `bubblewrap` | Python read-only, an empty temporary directory; no network, no other process |
| `namespaces` | `unshare` | the same, by our own system calls (`guest.namespaces`), where bubblewrap is missing |
| `process` | `limits` | Python read-only and its own folder; without Landlock in the kernel, other files too |

With every backend a filter of system calls (`guest.syscalls`) refuses sockets other than Unix ones.

The command may run a program that a model wrote (`sandbox.process`) or a verifier that reads such text
(`sandbox.verifier_pool`).
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from unmask.sandbox.guest.supervisor import MAX_FILES

Backend = Literal["bubblewrap", "unshare", "limits"]
# Shared libraries and time zones; of /etc only what the loader reads.
SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
# POSIX keeps semaphores and shared memory in files there; they count as temporary files.
LINKS = {
    "/dev/shm": "/tmp",
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
}
CODE = Path(__file__).parents[1]
TMP = Path("/tmp")
INSIDE_CODE, INSIDE_PACKAGES = Path("/unmask/code"), Path("/unmask/packages")
BOOT = (
    "import json, sys; setup = json.loads(sys.argv[1]); sys.path += setup.pop('path');"
    "from {module} import main; main(setup)"
)
NAMESPACES_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from namespaces import main; main(sys.argv[2:])"
)
FLAGS = ("-s", "-P", "-S", "-B", "-W", "ignore", "-X", "utf8")
# Replaces this process's environment. One thread per process; the fixed hash seed makes results repeatable.
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or folder that is visible read-only inside, and its path there."""

    outside: Path
    inside: Path


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python: its program, its standard library and its installed packages."""

    executable: Path
    prefix: Path
    packages: Path

    @property
    def binds(self) -> list[Bind]:
        """The paths that must be visible for it to run, without the packages."""
        # The prefix of a system's own Python is /usr; SYSTEM holds the parts of it that are needed.
        own = self.executable if self.prefix in (Path("/usr"), Path("/")) else self.prefix
        return [Bind(path, path) for path in (*map(Path, SYSTEM), own)]


@cache
def interpreter(python: Path | None = None) -> Interpreter:
    """Return the paths of a Python; None is the one that runs this.

    Raises:
        ValueError: it does not run.
    """
    if python is None:
        executable = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
        packages = Path(sysconfig.get_path("purelib")).resolve()
        return Interpreter(executable, Path(sys.base_prefix), packages)
    ask = "import sys, sysconfig; print(sys.base_prefix, sysconfig.get_path('purelib'), sep='\\n')"
    try:
        printed = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(f"task.sandbox.python = {python}: it does not run ({error})") from error
    prefix, packages = map(Path, printed.stdout.splitlines())
    return Interpreter(python.resolve(), prefix, packages.resolve())


def python_command(python: Interpreter, module: str, setup: Mapping[str, Any]) -> list[str]:
    """Return the command that calls `main(setup)` of a module, without site packages or user settings.

    Args:
        python: the interpreter.
        module: dotted name.
        setup: JSON values; its `path` is appended to `sys.path` and not passed to `main`.
    """
    return [str(python.executable), *FLAGS, "-c", BOOT.format(module=module), json.dumps(setup)]


def program_command(
    backend: Backend, path: Path | None, home: str, setup: Mapping[str, Any]
) -> list[str]:
    """Return the command of a process that waits for a program (`guest.main`).

    Args:
        backend: how the process is isolated.
        path: the interpreter; None is the one that runs this.
        home: the folder where the program may write.
        setup: of `guest.main.main`, without the paths, which are added here.
    """
    python = interpreter(path)
    own = [Bind(python.packages, INSIDE_PACKAGES), Bind(CODE, INSIDE_CODE / "unmask")]
    binds = [*python.binds, *own]
    place = {
        "path": [str(INSIDE_PACKAGES), str(INSIDE_CODE)],
        "paths": {"use": DEVICES, "write": [home]},
        "bounded": "writing",
        "may_connect": True,
        "tmpfs": str(TMP),
    }
    if backend == "limits":
        read = [bind.outside for bind in binds if bind.outside.exists()]
        devices = [device for device in DEVICES if Path(device).exists()]
        place = {
            "path": [str(python.packages), str(CODE.parent)],
            "paths": {"read": [*map(str, read), "/proc"], "use": devices, "write": [home]},
            "bounded": "all" if setup["uid"] is None else "all but new folders",
            "may_connect": False,
            "tmpfs": "/dev/shm",
        }
    command = python_command(python, "unmask.sandbox.guest.main", {**setup, **place})
    return isolated(backend, command, binds, setup["limits"]["file"], may_change_user=True)


def isolated(
    backend: Backend,
    command: Sequence[str],
    binds: Iterable[Bind],
    tmp_bytes: int,
    may_change_user: bool,
) -> list[str]:
    """Return a command that runs another one isolated.

    Args:
        backend: how.
        command: the other command; its program must be visible inside.
        binds: the visible paths, in addition to an empty temporary directory, where the command starts.
        tmp_bytes: size of that directory.
        may_change_user: whether the command keeps the capabilities to become another user.
    """
    existing = [bind for bind in binds if bind.outside.exists()]
    places = {bind.inside for bind in existing}
    # A bind below another one is visible already.
    seen = [bind for bind in dict.fromkeys(existing) if places.isdisjoint(bind.inside.parents)]
    match backend:
        case "bubblewrap":
            return [*_bubblewrap(seen, tmp_bytes, may_change_user), "--", *command]
        case "unshare":
            spec = {
                "binds": [[str(bind.outside), str(bind.inside)] for bind in seen],
                "devices": DEVICES,
                "links": LINKS,
                "tmp_bytes": tmp_bytes,
                "tmp_files": MAX_FILES,
                "may_change_user": may_change_user,
            }
            code = str(CODE / "sandbox" / "guest")
            return [sys.executable, *FLAGS, "-c", NAMESPACES_BOOT, code, json.dumps(spec), *command]
        case "limits":
            return list(command)


def _bubblewrap(binds: Sequence[Bind], tmp_bytes: int, may_change_user: bool) -> list[str]:
    is_root = os.geteuid() == 0
    capabilities = ("CAP_SETUID", "CAP_SETGID", "CAP_KILL") if is_root and may_change_user else ()
    # Parent folders that bubblewrap makes itself would be closed to another user.
    inside = (*(bind.inside for bind in binds), *map(Path, DEVICES))
    folders = {parent for path in inside for parent in path.parents} - {Path("/"), TMP}
    return [
        shutil.which("bwrap") or "bwrap",
        *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
        # Root needs no user namespace, and inside one the kernel's limit on processes would not hold for it.
        *("--unshare-cgroup-try", *(() if is_root else ("--unshare-user",))),
        *("--die-with-parent", "--proc", "/proc"),
        *("--perms", "1777", "--size", str(tmp_bytes), "--tmpfs", str(TMP)),
        *(word for path in sorted(folders) for word in ("--perms", "0755", "--dir", str(path))),
        *(word for b in binds for word in ("--ro-bind", str(b.outside), str(b.inside))),
        *(word for device in DEVICES for word in ("--dev-bind", device, device)),
        *(word for link, target in LINKS.items() for word in ("--symlink", target, link)),
        *("--remount-ro", "/", "--chdir", str(TMP)),
        *(word for name in capabilities for word in ("--cap-add", name)),
    ]
