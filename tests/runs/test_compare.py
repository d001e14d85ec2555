"""Two runs: the keys that differ, and the last metrics of both."""

from pathlib import Path

import pytest

from tests.runs.past_runs import past_run
from unmask.runs.compare import compare_runs


def test_different_keys_and_all_last_metrics(tmp_path: Path) -> None:
    a = past_run(tmp_path / "a", metrics=[{"step": 3, "loss": 0.5, "kl": None, "ratio": 1.0}])
    b = past_run(tmp_path / "b", "optimizer.lr=0.1", metrics=[{"step": 4, "loss": 0.25, "kl": 2.0}])
    config, environment, metrics = compare_runs(a, b).split("\n\n")
    assert [line.split() for line in config.splitlines()] == [
        ["config"],
        [str(a), str(b)],
        ["optimizer.lr", "1e-05", "0.1"],
    ]
    assert environment == "environment: no difference"
    rows = [line.split() for line in metrics.splitlines()[2:]]
    assert rows[0] == ["steps", "3", "4", "+1"]
    assert rows[2:] == [
        ["loss", "0.5", "0.25", "-0.25"],
        ["kl", "not", "finite", "2"],
        ["ratio", "1", "-"],
    ]


def test_directories_that_are_not_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="b: is not a run"):
        compare_runs(past_run(tmp_path / "a"), tmp_path / "b")
