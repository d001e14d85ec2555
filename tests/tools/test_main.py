"""The command line of `tools/gpu_check`."""

import subprocess
import sys

import pytest

from tests.architecture.source import ROOT
from tools.gpu.main import main


def test_the_script_explains_itself() -> None:
    command = [sys.executable, str(ROOT / "tools" / "gpu_check"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for option in ("--device", "--tiny", "--all", "--only", "--list", "--budget", "--wheels"):
        assert option in done.stdout
    assert "benchmarks/results/gpu" in done.stdout


def test_what_cannot_be_run_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cpu", "--tiny", "--only", "nothing"]) == 2
    assert "gpu_check: --only nothing: no part has this name" in capsys.readouterr().err
