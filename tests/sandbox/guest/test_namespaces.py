"""Namespaces by our own system calls: visible paths and refused accesses, for root and other users."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.sandboxes import SYSTEM_PYTHON, python_for, ready
from unmask.sandbox.guest import namespaces
from unmask.sandbox.limits import Limits

PROGRAM = """
import os

def look():
    status = open("/proc/self/status").read().split("\\n")
    wanted = ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs")
    return {
        "root": sorted(os.listdir("/")),
        "interfaces": [line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line],
        "status": {line.split(":")[0]: line.split()[1] for line in status if line.startswith(wanted)},
        "mounts": [line.split()[3].split(",")[0] for line in open("/proc/self/mounts")
                   if line.split()[1] not in ("/tmp", "/proc") and not line.split()[1].startswith("/dev/")],
    }
"""


def test_only_bound_paths_exist_and_no_privilege_can_be_gained():
    python_for("unshare")
    with ready("unshare", Limits()) as sandbox:
        sandbox.load(PROGRAM)
        seen = sandbox.call("look")
    assert set(seen["root"]) <= {
        "dev",
        "etc",
        "lib",
        "lib64",
        "opt",
        "proc",
        "root",
        "tmp",
        "unmask",
        "usr",
    }
    assert seen["interfaces"] == ["lo"]
    assert set(seen["mounts"]) == {"ro"}
    assert seen["status"]["NoNewPrivs"] == "1"
    assert int(seen["status"]["CapEff"], 16) == int(seen["status"]["CapPrm"], 16) == 0
    # Three of them are for the supervisor; without new privileges they have no effect.
    assert int(seen["status"]["CapBnd"], 16) in (0, 0b11100000)


LOOK = (
    "import os; print(os.getuid(), os.listdir('/tmp'), "
    "[l.split()[1] for l in open('/proc/self/status') if l.startswith('CapEff')][0])"
)


def test_it_needs_no_root():
    if os.geteuid() != 0 or not SYSTEM_PYTHON.exists():
        pytest.skip("run as root, with a Python in /usr, to change the user first")
    spec = {
        "binds": [[path, path] for path in ("/usr", "/lib", "/lib64") if Path(path).exists()],
        "devices": ["/dev/null"],
        "links": {"/dev/shm": "/tmp"},
        "tmp_bytes": 2**20,
        "tmp_files": 100,
        "may_change_user": False,
    }
    command = [str(SYSTEM_PYTHON), "-c", Path(namespaces.__file__).read_text() + CALL]
    done = subprocess.run(
        [*command, json.dumps(spec), str(SYSTEM_PYTHON), "-S", "-c", LOOK],
        **{"user": 41_999, "group": 41_999, "extra_groups": [], "cwd": "/"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip(f"this kernel lets only root make namespaces: {done.stderr[-200:]}")
    assert done.stdout.split() == ["41999", "[]", "0000000000000000"], done.stderr


CALL = "\nimport sys\nmain(sys.argv[1:])\n"
