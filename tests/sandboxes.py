"""Sandboxes for tests: every backend of this machine, or the reason why it is not here."""

import os
from pathlib import Path

import pytest

from unmask.sandbox import command
from unmask.sandbox.command import Backend
from unmask.sandbox.isolation import BACKENDS, isolation_of, try_backend
from unmask.sandbox.limits import Limits
from unmask.sandbox.process import Sandbox

SYSTEM_PYTHON = Path("/usr/bin/python3")
WITHOUT_LANDLOCK = (
    "import unmask.sandbox.guest.landlock as landlock; landlock.abi = lambda: 0; main(setup)"
)
NAMESPACES = [backend for backend in BACKENDS if backend != "limits"]


def python_for(backend: Backend) -> Path | None:
    """Return an interpreter that works isolated by this backend; skip the test where there is none."""
    for python in (None, *([SYSTEM_PYTHON] if SYSTEM_PYTHON.exists() else [])):
        if try_backend(backend, python).works:
            return python
    return pytest.skip(
        f"no {isolation_of(backend)} by {backend} here: {try_backend(backend).reason}"
    )


def ready(backend: Backend, limits: Limits | None = None) -> Sandbox:
    """Start a sandbox and wait for it; skip the test where this machine has none of the kind."""
    sandbox = Sandbox(backend, limits or Limits(), python_for(backend))
    sandbox.wait_until_ready()
    return sandbox


def skip_unless_it_is_another_user(backend: Backend) -> None:
    """Skip what would reach the processes of the one who runs the tests."""
    if backend == "limits" and os.geteuid() != 0:
        pytest.skip("isolation process: without root, programs run as the user who tests them")


def without_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start programs as on a kernel that has no Landlock."""
    monkeypatch.setattr(command, "BOOT", command.BOOT.replace("main(setup)", WITHOUT_LANDLOCK))
