"""The isolation backends that work on this machine, found by trying them.

A kernel may offer namespaces that a container forbids, so version numbers decide nothing: each backend
is tried once per process, with the command that is used later.
"""

import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Literal

from unmask.configs.sandbox import Isolation
from unmask.sandbox import cgroup
from unmask.sandbox.command import Backend, interpreter
from unmask.sandbox.guest import landlock
from unmask.sandbox.limits import Limits, ProgramFailedError
from unmask.sandbox.process import Sandbox

BACKENDS: tuple[Backend, ...] = ("bubblewrap", "unshare", "limits")
INSTALL = "install the package bubblewrap of your distribution, as root"
ALLOW = (
    "allow user namespaces (sysctl user.max_user_namespaces, or the settings of the container), "
    f"or {INSTALL}"
)
WEAKER = "programs can then access more (docs/sandbox.md)"
# Not loaded when Python starts, so the user of the program must find and read it.
TRIAL = "import decimal"


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of trying one backend.

    Attributes:
        backend: the backend.
        works: whether it ran a program.
        reason: why not.
    """

    backend: Backend
    works: bool
    reason: str = ""


def isolation_of(backend: Backend) -> Literal["namespaces", "process"]:
    """Return the isolation that a backend provides, as `task.sandbox.isolation` names it."""
    return "process" if backend == "limits" else "namespaces"


def describe_isolation(backend: Backend) -> str:
    """Return isolation and backend as a phrase for the record of a run."""
    memory = "" if cgroup.parent() is None else ", memory counted by a cgroup"
    if backend == "limits":
        return f"process, {'with' if landlock.abi() else 'without'} Landlock{memory}"
    by = "bubblewrap" if backend == "bubblewrap" else "our own system calls"
    return f"namespaces, by {by}{memory}"


def choose_backend(
    isolation: Isolation, python: Path | None = None, key: str = "task.sandbox.isolation"
) -> Backend:
    """Return the strongest backend of this machine that provides the configured isolation.

    Raises:
        ValueError: there is none; the message lists what was tried and how to proceed.
    """
    wanted = "process" if isolation == "process" else "namespaces"
    tried: list[str] = []
    for trial in (try_backend(b, python) for b in BACKENDS if isolation_of(b) == wanted):
        if trial.works:
            return trial.backend
        tried.append(f"{trial.backend}: {trial.reason}")
    weaker = f', or set {key} = "process": {WEAKER}' if wanted == "namespaces" else ""
    raise ValueError(
        f"{key} = {isolation!r}: programs cannot be isolated like that here "
        f"({'; '.join(tried)}); {ALLOW}{weaker}"
    )


def best_backend() -> Backend:
    """Return the strongest backend of this machine for foreign code; `limits` works everywhere."""
    return next(b for b in BACKENDS if b == "limits" or try_backend(b).works)


@cache
def try_backend(backend: Backend, python: Path | None = None) -> Trial:
    """Run a program isolated by a backend, once per process, and return whether that works."""
    if sys.platform != "linux":
        return Trial(backend, False, "programs run on Linux only")
    if backend == "bubblewrap" and not shutil.which("bwrap"):
        return Trial(backend, False, "bubblewrap is not installed")
    try:
        with TemporaryFile() as stderr, Sandbox(backend, Limits(), python, stderr) as sandbox:
            try:
                sandbox.wait_until_ready()
                sandbox.load(TRIAL)
            except RuntimeError:
                stderr.seek(0)
                lines = stderr.read().decode(errors="replace").strip().splitlines()
                return Trial(backend, False, lines[-1] if lines else "it does not start")
            except (ProgramFailedError, ImportError) as error:
                at = interpreter(python).executable
                return Trial(
                    backend, False, f"{at} does not work for an unprivileged user ({error})"
                )
    except OSError as error:
        return Trial(backend, False, str(error))
    return Trial(backend, True)
