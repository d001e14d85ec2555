"""What the comparison of methods makes of its runs: budgets, paired intervals, straight lines."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "benchmarks" / "methods_report.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("methods_report", PLACE)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


report = load()


def run(
    variant: str, seed: int, accuracies: list[float], cpu_s: float = 10.0, load: float = 1.0
) -> dict[str, Any]:
    """Return a run of `cpu_s` seconds between evaluations; a run without evaluations scores 0.2."""
    curve = [
        {
            "step": i,
            "accuracy": accuracy,
            "tokens_per_denoising_step": 1.5,
            "rollout_cpu_s": i * 5.0 * load,
            "update_cpu_s": i * (cpu_s - 5.0) * load,
            "denoising_steps": i * 100.0,
        }
        for i, accuracy in enumerate(accuracies, start=1)
    ]
    last = {"accuracy": [0.2, *accuracies][-1], "tokens_per_denoising_step": 1.5}
    return {
        "task": "sums",
        "seed": seed,
        "variant": variant,
        "curve": curve,
        "last_third": {"groups_kept": 0.5},
        "at_block": {"4": last, "8": last},
    }


def runs_of_seed(seed: int) -> list[dict[str, Any]]:
    return [
        run("sft", seed, []),
        run("trace", seed, [0.4, 0.6]),
        run("value", seed, [0.4, 0.6], cpu_s=20.0),
        run("coupled", seed, [0.4, 0.7 + 0.1 * seed], cpu_s=20.0),
        run("random", seed, [0.4, 0.5]),
    ]


def rows(runs: list[dict[str, Any]]) -> dict[str, Any]:
    found = report.summarise(report.at_one_load(runs))
    return {row["variant"]: row for row in found["methods"]["sums"]}


def test_equal_compute_reads_a_dearer_method_where_the_cheapest_ended() -> None:
    found = rows(runs_of_seed(0))["coupled"]["accuracy"]
    assert found["equal_rollouts"]["mean"] == pytest.approx(0.7)
    assert found["equal_compute"]["mean"] == pytest.approx(0.4), "20 s are one of its steps"
    assert found["over_the_run"]["mean"] == pytest.approx(0.55)


def test_a_place_between_evaluations_lies_on_the_straight_line() -> None:
    curve = [{"cpu_s": 0.0, "accuracy": 0.2}, {"cpu_s": 10.0, "accuracy": 0.4}]
    assert report.accuracy_at(curve, "cpu_s", 2.5) == pytest.approx(0.25)
    assert report.accuracy_at(curve, "cpu_s", 99.0) == 0.4, "the last one beyond the end"


def test_a_lead_is_paired_by_seed_with_students_interval() -> None:
    lead, half = rows([*runs_of_seed(0), *runs_of_seed(1)])["coupled"]["accuracy"][
        "equal_rollouts"
    ]["lead"]
    assert lead == pytest.approx(0.15)  # 0.1 and 0.2
    assert half == pytest.approx(12.706 * 0.05, rel=1e-3)


def test_a_seed_at_which_a_method_is_missing_is_left_out() -> None:
    found = rows([*runs_of_seed(0), *runs_of_seed(1)[:-1]])
    assert all(row["seeds"] == [0] for row in found.values())
    assert found["coupled"]["accuracy"]["equal_rollouts"]["lead"][1] is None, (
        "one seed, no interval"
    )


def test_no_finished_seed_gives_no_rows() -> None:
    assert rows(runs_of_seed(0)[:3]) == {}


def test_larger_blocks_are_compared_where_all_ways_to_them_are_done() -> None:
    runs = [*runs_of_seed(0), run("train8", 0, [0.4, 0.5]), run("rollout8", 0, [0.4, 0.9])]
    found = report.summarise(report.at_one_load([*runs, *runs_of_seed(1)]))["blocks"]["sums"]
    assert [row["variant"] for row in found] == ["sft", "trace", "train8", "rollout8"]
    assert all(row["seeds"] == [0] for row in found)
    assert found[-1]["at_block"]["8"]["lead"][0] == pytest.approx(0.7), "over the SFT model's 0.2"
    assert report.summarise(report.at_one_load(runs_of_seed(0)))["blocks"]["sums"] == []


def test_a_busy_machine_does_not_make_a_run_dearer() -> None:
    quiet, busy = run("trace", 0, [0.4, 0.6]), run("random", 0, [0.4, 0.6], load=3.0)
    found = report.at_one_load([quiet, busy])
    assert [p["cpu_s"] for p in found[1]["curve"]] == pytest.approx([10.0, 20.0])
    assert found[0]["curve"][1] == pytest.approx(
        quiet["curve"][1] | {"rollout_s": 10.0, "update_s": 10.0, "cpu_s": 20.0}
    )


def test_the_page_shows_the_committed_results() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "methods.json").read_text())
    again = json.loads(json.dumps(report.summarise(result["runs"])))
    assert {name: result[name] for name in again} == again, "the rows follow from the runs"
    assert report.tables(result).strip() in (ROOT / "docs" / "learning.md").read_text()
