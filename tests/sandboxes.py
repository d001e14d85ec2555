"""Sandboxes for tests: every means of this machine, or the reason why it is not here."""

import os
from pathlib import Path

import pytest

from unmask.sandbox import command
from unmask.sandbox.command import Means
from unmask.sandbox.isolation import MEANS, level_of, try_means
from unmask.sandbox.limits import Limits
from unmask.sandbox.process import Sandbox

SYSTEM_PYTHON = Path("/usr/bin/python3")
WITHOUT_LANDLOCK = (
    "import unmask.sandbox.guest.landlock as landlock; landlock.abi = lambda: 0; main(setup)"
)
WALLED = [means for means in MEANS if means != "limits"]


def python_for(means: Means) -> Path | None:
    """Return an interpreter that works behind these walls; skip the test where there is none."""
    for python in (None, *([SYSTEM_PYTHON] if SYSTEM_PYTHON.exists() else [])):
        if try_means(means, python).works:
            return python
    return pytest.skip(f"no {level_of(means)} by {means} here: {try_means(means).said}")


def ready(means: Means, limits: Limits | None = None) -> Sandbox:
    """Start a sandbox and wait for it; skip the test where this machine has none of the kind."""
    sandbox = Sandbox(means, limits or Limits(), python_for(means))
    sandbox.wait_until_ready()
    return sandbox


def skip_unless_it_is_another_user(means: Means) -> None:
    """Skip what would reach the processes of the one who runs the tests."""
    if means == "limits" and os.geteuid() != 0:
        pytest.skip("level process: without root, programs run as the user who tests them")


def without_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start programs as on a kernel that has no Landlock."""
    monkeypatch.setattr(command, "BOOT", command.BOOT.replace("main(setup)", WITHOUT_LANDLOCK))
