"""Memory of an update grows with the tokens of a sample, not with their square."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "long_samples.py"
# One layer, and a head whose logits are held 256 rows at a time: all of them would take as much as a mask.
TINY = ("--width=64", "--layers=1", "--vocabulary=4096", f"--chunk={2**20}")


@pytest.mark.parametrize("kind", ["block"])
def test_twice_the_tokens_take_twice_the_memory(kind: str) -> None:
    """A mask of all pairs would take four times as much."""
    peaks = []
    for length in ("4096", "8192"):
        command = [sys.executable, str(PROGRAM), *TINY, "--child", kind, length]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks.append(json.loads(done.stdout)["peak_mib"])
    assert peaks[1] < 2.6 * peaks[0]
