"""The benchmarks still run, and the layouts they compare still have one gradient."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("name", ["quickstart_parts", "tracerl_update"])
def test_benchmark_runs(name: str, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--smoke", "--out", str(out)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result["machine"]["threads"] == 1
    if name == "quickstart_parts":
        for stage in ("sft", "rl"):
            assert sum(part["share"] for part in result[stage]["parts"]) == pytest.approx(
                1, abs=0.01
            )
            assert min(part["wall_s"] for part in result[stage]["parts"]) >= 0
    else:
        assert set(result["workloads"]) == {"chain_sum", "lengths"}
