"""The comparison of measured and predicted memory runs on a toy."""

import json
from pathlib import Path

import pytest

from tests.forked_python import run_python

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "plan_error.py"


@pytest.mark.parametrize("workload", ["sft"])
def test_a_toy_is_measured(workload: str, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    done = run_python([PROGRAM, "--smoke", "--only", workload, "--out", out], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(out.read_text())["workloads"].values()
    assert 0 < row["predicted_mib"] < 100 and row["measured_mib"] < row["imported_mib"]
    assert row["packed_tokens"][0] == pytest.approx(row["packed_tokens"][1], rel=0.25)
    assert all(own["measured"] > 0 for own in row["seconds"].values())
