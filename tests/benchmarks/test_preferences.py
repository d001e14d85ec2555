"""Preferences are trained and reported on a toy: a method on given pairs, and the table of finished units."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.loading import load

program, setting = map(load, ("preferences", "setting"))
SIZE = program.Size(evaluated=4, steps=1)


def test_a_method_is_trained_on_the_pairs_of_its_seed(tmp_path: Path) -> None:
    place = tmp_path / "0"
    setting.train_quickstart_model(program.TASK, place, ["steps=1", "eval.problems=0"])
    pair = {"prompt_ids": [5, 6], "chosen_ids": [7, 8], "rejected_ids": [8, 7]}
    steps = {"chosen_step_map": [1, 2], "rejected_step_map": [2, 1]}
    (place / "ids.json").write_text(json.dumps([pair | steps] * 32))
    (place / "pairs.json").write_text("[]")
    unit = program.Unit(0, "dtrpo_recorded", 1e-3, "test")
    program.run_unit(unit, SIZE, tmp_path)
    found = program.read(unit.file(tmp_path))
    assert 0 <= found["accuracy"] <= 1 and found["packed_tokens"] > 0


def test_the_best_rate_is_reported_with_its_gain(tmp_path: Path) -> None:
    accuracies = {unit: 0.1 + unit.rate for unit in program.tuning("vrpo")}
    for seed in (0, 1):
        accuracies[program.Unit(seed, "sft", 0.0, "test")] = 0.25
        accuracies[program.Unit(seed, "vrpo", 1e-3, "test")] = 0.5 + 0.25 * seed
    for unit, accuracy in accuracies.items():
        unit.file(tmp_path).write_text(json.dumps({"accuracy": accuracy, "cpu_s": 1.0}))
    program.report(tmp_path, [0, 1], SIZE, tmp_path / "out.json")
    row = json.loads((tmp_path / "out.json").read_text())["methods"]["vrpo"]
    assert (row["rate"], row["accuracy"]) == (1e-3, 0.625)
    assert row["gain"] == pytest.approx(0.375)
