"""Cgroups are used only where they count memory and processes."""

from pathlib import Path

import pytest

from tests.sandboxes import ready
from unmask.sandbox import cgroup
from unmask.sandbox.isolation import best_backend, describe_isolation
from unmask.sandbox.process import Limits, ProgramFailedError

PROGRAM = """
import os, time
def child():
    hoard = bytearray(100 * 2**20)
    hoard[::4096] = bytes(len(hoard) // 4096)
    time.sleep(20)
def f(x):
    for _ in range(3):
        if os.fork() == 0:
            child()
            os._exit(0)
    time.sleep(20)
"""


def test_a_folder_of_another_file_system_is_no_cgroup(tmp_path: Path):
    with pytest.raises(OSError, match=r"memory\.max"):
        cgroup._counts(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_place_is_no_cgroup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(cgroup, "_candidates", lambda: iter([tmp_path, tmp_path / "missing"]))
    monkeypatch.setattr(cgroup, "parent", cgroup.parent.__wrapped__)
    assert cgroup.parent() is None
    assert cgroup.make(2**30, 8) is None
    assert "cgroup" not in describe_isolation("bubblewrap")


def test_all_processes_of_a_program_share_its_memory():
    above = cgroup.parent()
    if above is None:
        pytest.skip("this machine gives no cgroup with memory and pids")
    with ready(best_backend(), Limits(memory=200 * 2**20, file=2**20)) as sandbox:
        sandbox.load(PROGRAM)
        with pytest.raises(ProgramFailedError):
            sandbox.call("f", 0)
        assert sandbox.failure == "crash"
    assert not list(above.glob("unmask-*"))
