"""Two processes never write one run; a lock ends with its process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from unmask.configs.load import load_config
from unmask.configs.sft import SFTConfig
from unmask.runs.directory import open_run
from unmask.runs.lock import LOCK, lock

HOLDER = """
import sys, time
from pathlib import Path
from unmask.runs.lock import lock
held = lock(Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the lock of `tmp_path`."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_run_that_another_process_writes_is_refused(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    words = ("model.path=x", "data.path=y", f"run.dir={tmp_path}")
    config, _ = load_config(SFTConfig, [], words)
    who = f"process {holder.pid} on {os.uname().nodename}"
    with pytest.raises(ValueError, match=rf"^run\.dir = .*: {who} is writing this run; let it end"):
        open_run(config)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK], "nothing of the other's is touched"


def test_a_lock_ends_with_its_process(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    lock(tmp_path).release()


def test_a_closed_lock_is_free(tmp_path: Path) -> None:
    lock(tmp_path).release()
    done = subprocess.run(
        [sys.executable, "-c", HOLDER.replace("600", "0"), str(tmp_path)], timeout=60
    )
    assert done.returncode == 0
