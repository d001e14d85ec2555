"""What this machine can lock a program into, found out by doing it.

A kernel may offer namespaces and a container still forbid them, so nothing is read off version
numbers: a means is tried with the very command that will be used, once per process, and what it
must keep out is looked for from inside.
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
from unmask.sandbox.command import Means, interpreter
from unmask.sandbox.guest import landlock
from unmask.sandbox.limits import Limits, ProgramFailedError
from unmask.sandbox.process import Sandbox

MEANS: tuple[Means, ...] = ("bubblewrap", "unshare", "limits")
INSTALL = "install the package bubblewrap of your distribution, as root"
ALLOW = (
    "allow user namespaces (sysctl user.max_user_namespaces, or the settings of the container), "
    f"or {INSTALL}"
)
WEAKER = "less is kept from programs then (docs/sandbox.md)"
# It is loaded by no process at its start, so the program's own user must find and read it.
TRIAL = "import decimal"


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of trying one means.

    Attributes:
        means: which.
        works: whether a program could be locked in by it.
        said: what was said instead.
    """

    means: Means
    works: bool
    said: str = ""


def level_of(means: Means) -> Literal["namespaces", "process"]:
    """Return the level that a means gives."""
    return "process" if means == "limits" else "namespaces"


def isolation_of(means: Means) -> str:
    """Describe a means for the record of a run: the level, and what gives it."""
    memory = "" if cgroup.parent() is None else ", memory counted by a cgroup"
    if means == "limits":
        return f"process, {'with' if landlock.abi() else 'without'} Landlock{memory}"
    by = "bubblewrap" if means == "bubblewrap" else "our own system calls"
    return f"namespaces, by {by}{memory}"


def choose_means(
    isolation: Isolation, python: Path | None = None, key: str = "task.sandbox.isolation"
) -> Means:
    """Return the strongest means of this machine that the config admits.

    Raises:
        ValueError: there is none; the message says what was tried and the way out.
    """
    wanted = "process" if isolation == "process" else "namespaces"
    tried: list[str] = []
    for means in MEANS:
        if level_of(means) == wanted:
            trial = try_means(means, python)
            if trial.works:
                return means
            tried.append(f"{means}: {trial.said}")
    weaker = f', or set {key} = "process": {WEAKER}' if wanted == "namespaces" else ""
    raise ValueError(
        f"{key} = {isolation!r}: programs cannot be locked in like that here "
        f"({'; '.join(tried)}); {ALLOW}{weaker}"
    )


def best_walls() -> Means:
    """Return the strongest means there is for a process that is foreign, not hostile; `limits` always is one."""
    for means in MEANS:
        if means != "limits" and try_means(means).works:
            return means
    return "limits"


@cache
def try_means(means: Means, python: Path | None = None) -> Trial:
    """Lock a program in by a means, once, and call it."""
    if sys.platform != "linux":
        return Trial(means, False, "programs run on Linux only")
    if means == "bubblewrap" and not shutil.which("bwrap"):
        return Trial(means, False, "bubblewrap is not installed")
    try:
        with TemporaryFile() as said, Sandbox(means, Limits(), python, said) as sandbox:
            try:
                sandbox.wait_until_ready()
                sandbox.load(TRIAL)
            except RuntimeError:
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                return Trial(means, False, lines[-1] if lines else "it does not start")
            except (ProgramFailedError, ImportError) as error:
                at = interpreter(python).executable
                return Trial(means, False, f"{at} does not work for an unprivileged user ({error})")
    except OSError as error:
        return Trial(means, False, str(error))
    return Trial(means, True)
