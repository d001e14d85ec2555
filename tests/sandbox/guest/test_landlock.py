"""Landlock's rules, applied to a process of this machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from unmask.sandbox.guest.landlock import abi

SCRIPT = """
import ctypes, json, os, sys
from unmask.sandbox.guest.landlock import restrict
folder, paths, bounded = json.loads(sys.argv[1])
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
restrict(paths, bounded)
done = {}
def attempt(name, action):
    try:
        action()
        done[name] = True
    except OSError:
        done[name] = False
attempt("read", lambda: open(folder + "/closed/file").read())
attempt("read own", lambda: open(folder + "/seen/file").read())
attempt("list", lambda: os.listdir(folder + "/closed"))
attempt("write", lambda: open(folder + "/seen/file", "a"))
attempt("make", lambda: open(folder + "/closed/new", "w"))
attempt("folder", lambda: os.mkdir(folder + "/closed/folder"))
attempt("make own", lambda: open(folder + "/own/new", "w").write("x"))
attempt("move", lambda: (os.mkdir(folder + "/own/deep"), os.rename(folder + "/own/new", folder + "/own/deep/new")))
attempt("truncate own", lambda: os.truncate(folder + "/own/deep/new", 0))
attempt("score", lambda: open("/proc/self/oom_score_adj", "w"))
attempt("signal", lambda: os.kill(os.getppid(), 0))
attempt("null", lambda: open("/dev/null", "w").write("x"))
print(json.dumps(done))
"""


has_landlock = pytest.mark.skipif(abi() < 2, reason="this kernel has no Landlock of version 2")
SIGNAL: set[str] = {"signal"} if abi() >= 6 else set()


def attempts(folder: Path, bounded: str) -> dict[str, bool]:
    for name in ("closed", "seen", "own"):
        (folder / name).mkdir()
        (folder / name / "file").write_text("x")
    read = [sys.base_prefix, sys.prefix, "/proc", "/usr", "/lib", str(folder / "seen")]
    paths = {
        "read": [path for path in read if Path(path).exists()] if bounded != "writing" else [],
        "use": ["/dev/null"],
        "write": [str(folder / "own")],
    }
    command = [sys.executable, "-c", SCRIPT, json.dumps([str(folder), paths, bounded])]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


@has_landlock
@pytest.mark.parametrize("bounded", ["all", "all but new folders"])
def test_without_namespaces_only_allowed_paths_can_be_read(bounded: str, tmp_path: Path):
    found = attempts(tmp_path, bounded)
    assert found.pop("folder") == (bounded != "all")
    own = {"read own", "make own", "move", "truncate own", "null"}
    assert {name for name, works in found.items() if not works} == set(found) - own - (
        {"signal"} - SIGNAL
    )


@has_landlock
def test_with_namespaces_only_writing_is_restricted(tmp_path: Path):
    found = attempts(tmp_path, "writing")
    refused = {"write", "make", "score"} | SIGNAL
    assert {name for name, works in found.items() if not works} == refused


def test_a_kernel_without_it_changes_nothing(tmp_path: Path):
    script = "import unmask.sandbox.guest.landlock as l\nl.abi = lambda: 0" + SCRIPT
    paths = {"read": [], "use": [], "write": []}
    command = [sys.executable, "-c", script, json.dumps([str(tmp_path), paths, "all"])]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert found["null"] and found["signal"]
    assert list(tmp_path.iterdir()) == []
