"""The part that compares engine and learner to the bit runs in small, on CPU."""

import json
from pathlib import Path

import pytest
import torch

from tools.gpu.part import Setting

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_gap_is_nothing_with_the_mode_and_something_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from tools.gpu.parts.on_policy import PART  # imports the benchmarks' shapes

    outcome = PART.run(Setting(torch.device("cpu"), is_tiny=True, folder=tmp_path))
    assert outcome.passed, outcome.summary
    figures = json.loads(json.dumps(outcome.figures, allow_nan=False))
    assert set(figures) == {"block bfloat16", "block float32", "full, shifted bfloat16"}
    for found in figures.values():
        assert found["off"]["gap"]["max"] > 0
        assert found["on"]["gap"]["tokens"] >= 40
        assert found["on"]["gap"]["share_not_0"] == 0
    assert figures["block float32"]["on"]["update_s"] > 0
