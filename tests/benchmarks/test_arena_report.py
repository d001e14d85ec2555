"""What the arena makes of its runs: read-offs, paired leads, AUP, failures and what is missing."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.loading import BENCHMARKS, load

report = load("arena_report")
spec_module = load("arena_spec")
arena = load("arena")


def spec(*methods: str, seeds: tuple[int, ...] = (0, 1)) -> Any:
    """Return a spec of one task whose N is 100 rollouts and whose F is 1,000 tokens."""
    task = {
        "shape": (16, 1, 32),
        "rollouts": 100,
        "tokens": 1000,
        "every": 1,
        "rates": (1e-4, 1e-3),
    }
    return spec_module.Spec(
        seeds=seeds,
        problems=10,
        thresholds=(0.9,),
        tasks={"chain_sum": task},
        methods={name: {} for name in methods},
    )


def run(
    name: str, seed: int, accuracies: list[float], tokens: int = 1000, **changes: Any
) -> dict[str, Any]:
    """Return a run whose evaluations are 50 rollouts apart, and whose N are written at `tokens`."""
    points = [
        {
            "step": number,
            "rollouts": 50 * number,
            "sampler_tokens": tokens * number / 8,
            "learner_tokens": 3 * tokens * number / 8,
            "cpu_s": 2.0 * number,
            "accuracy": accuracy,
            "tokens_per_denoising_step": 1.0 + number,
        }
        for number, accuracy in enumerate(accuracies)
    ]
    return {
        "kind": "cell",
        "task": "chain_sum",
        "name": name,
        "seed": seed,
        "rate": 1e-3,
        "points": points,
        "ended": "budgets",
        "failure": None,
        "noise": {"variance": 6.0, "squared_mean": 2.0},
        "gap": {"mean": 1e-6, "max": 1e-5},
        "parallelism": [{"tokens_per_denoising_step": 1.0, "accuracy": accuracies[-1]}],
    } | changes


def row(text: str, head: str, table: int = 0) -> list[str]:
    """Return the cells of a row of the report's tables."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {head} |")]
    return lines[table].strip("| ").split(" | ")


def test_a_run_is_read_at_both_budgets() -> None:
    dear = run("wd1", 0, [0.2, 0.4, 0.6], tokens=2000)
    at_rollouts, at_tokens = report.readings(spec("tracerl", "wd1"), "chain_sum")
    assert at_rollouts(dear) == pytest.approx(0.6)
    assert at_tokens(dear) == pytest.approx(0.4), "half of its tokens are F"
    cheap = run("wd1", 0, [0.2, 0.4, 0.6, 0.6, 0.8], tokens=500)
    assert at_rollouts(cheap) == pytest.approx(0.6)
    assert at_tokens(cheap) == pytest.approx(0.8)


def test_a_place_between_evaluations_lies_on_the_straight_line() -> None:
    found = run("wd1", 0, [0.2, 0.4])
    assert report.value_at(found, "accuracy", "rollouts", 12.5) == pytest.approx(0.25)
    assert report.value_at(found, "accuracy", "rollouts", 999) == 0.4, "the last one beyond the end"


def test_a_lead_is_paired_by_seed_with_students_interval() -> None:
    runs = [
        *(run("tracerl", seed, [0.2, 0.3, 0.5]) for seed in (0, 1)),
        *(run("wd1", seed, [0.2, 0.3, 0.6 + 0.1 * seed]) for seed in (0, 1)),
    ]
    text = report.report(spec("tracerl", "wd1"), "main", runs)
    assert row(text, "wd1")[1] == "65.0% (+15.0 ± 63.5)"  # 12.706 * 5 points
    assert row(text, "wd1")[3] == "+15.0 ± 63.5", "one task is all tasks"
    assert row(text, "tracerl")[1:4:2] == ["50.0%", "-"], "no lead over itself"
    assert row(text, "SFT, the start")[1] == "20.0%"
    assert "4 of 4 runs are there." in text


def test_a_seed_without_the_baseline_counts_in_the_mean_alone() -> None:
    runs = [run("tracerl", 0, [0.5, 0.5, 0.5]), *(run("wd1", s, [0, 0.6, 0.6]) for s in (0, 1))]
    text = report.report(spec("tracerl", "wd1"), "main", runs)
    assert row(text, "wd1")[1] == "60.0% (+10.0)", "one pair has no interval"
    assert "3 of 4 runs are there. Missing:\n\n- chain_sum, seed 1: tracerl" in text


def test_nothing_finished_is_reported_as_that() -> None:
    text = report.report(spec("tracerl", "wd1"), "main", [])
    assert "0 of 4 runs are there" in text and "- chain_sum, seed 0: all methods" in text
    assert row(text, "wd1") == ["wd1", *"----"]


@pytest.mark.parametrize(
    ("changes", "accuracies", "failure"),
    [
        ({"ended": "failure"}, [0.4, 0.6, 0.6], "failure"),
        ({"ended": "cpu limit"}, [0.4, 0.6, 0.6], "cpu limit"),
        ({}, [0.4, 0.6, 0.19], "collapse"),
        ({}, [0.4, 0.6, 0.2], "-"),
    ],
)
def test_a_failed_run_is_named_and_counts(
    changes: dict[str, Any], accuracies: list[float], failure: str
) -> None:
    runs = [run("tracerl", 0, [0.4, 0.5, 0.6]), run("wd1", 0, accuracies, **changes)]
    text = report.report(spec("tracerl", "wd1", seeds=(0,)), "main", runs)
    assert row(text, "wd1")[1].startswith(f"{accuracies[-1]:.1%}")
    assert row(text, "wd1", 1)[-1] == failure
    assert row(text, "wd1", 1)[7] == "3.0", "variance over squared mean"


def test_aup_of_one_point_is_a_rectangle_and_of_a_flat_curve_its_area() -> None:
    def curve(*points: tuple[float, float]) -> list[dict[str, float]]:
        return [{"tokens_per_denoising_step": rho, "accuracy": y} for rho, y in points]

    assert report.aup(curve((2.0, 0.5)), 0.5) == pytest.approx(100.0)
    assert report.aup(curve((3.0, 0.5), (1.0, 0.5)), 0.5) == pytest.approx(150.0)
    assert report.aup(curve((1.0, 0.5), (3.0, 0.4)), 0.5) == pytest.approx(50.0), "10 points lost"
    weighed = 50 + (50 + 48 * 2.718281828459045 ** (-3 * 0.04)) / 2
    assert report.aup(curve((1.0, 0.5), (2.0, 0.48)), 0.5) == pytest.approx(weighed)
    assert report.aup([], 0.5) is None and report.aup(curve((1.0, 0.0)), 0.0) is None


def test_the_best_rate_on_validation_problems_is_chosen_the_lower_of_equals() -> None:
    scores = {1e-4: [0.1, 0.5, 0.5], 1e-3: [0.9, 0.4, 0.6]}
    runs = {rate: run("wd1", 9, found) for rate, found in scores.items()}
    assert {arena.rate_score(found) for found in runs.values()} == {0.5}
    assert arena.rate_score(runs[1e-3] | {"ended": "failure"}) == 0.0


def test_units_go_seed_by_seed_after_the_rates_of_their_task() -> None:
    order = [unit for stage in arena.stages(spec("tracerl", "wd1")) for unit in stage]
    kinds = [(unit.kind, unit.seed) for unit in order]
    first, second = kinds.index(("cell", 0)), kinds.index(("cell", 1))
    assert kinds.index(("start", 1000)) < kinds.index(("rate", 1000)) < first < second
    assert kinds.count(("rate", 1000)) == 4 and kinds.count(("cell", 1)) == 2


@pytest.mark.parametrize(
    "path", sorted((BENCHMARKS / "arena").glob("*.toml")), ids=lambda p: p.stem
)
def test_every_spec_makes_valid_runs(path: Any, tmp_path: Any) -> None:
    start, found = load("arena_start"), spec_module.read_spec(path)
    for task, size in found.tasks.items():
        for method, entry in found.methods.items():
            unit = spec_module.Unit("cell", task, method, 0)
            configs = start.rl_configs(found, unit, size.rates[0], tmp_path)
            assert len(configs) == len(entry.phases)
            assert {config.optimizer.lr for config in configs} == {size.rates[0]}
            assert {config.eval.sampling.strategy for config in configs} == {"dynamic"}, "for all"
            step = configs[0].rollout.prompts * configs[0].rollout.responses
            assert size.rollouts % (step * size.every) == 0, "N is an evaluation"


def test_a_spec_is_refused_by_the_key() -> None:
    with pytest.raises(ValueError, match=r"configs/methods has no no_method\.toml"):
        spec("tracerl", "no_method")
    with pytest.raises(ValueError, match="baseline = 'tracerl'"):
        spec("wd1")


def test_another_machine_goes_on_from_the_runs_of_a_report(tmp_path: Path) -> None:
    rates = [run("tracerl", 1000, [0.2, accuracy]) for accuracy in (0.3, 0.4)]
    rates = [
        {**one, "kind": "rate", "rate": rate} for one, rate in zip(rates, (1e-4, 1e-3), strict=True)
    ]
    runs = [*rates, run("tracerl", 0, [0.2, 0.5])]
    lines = "".join(json.dumps(one) + "\n" for one in runs)
    (tmp_path / "main-chain_sum.jsonl").write_text(lines)
    work = tmp_path / "work"
    for _ in range(2):  # files that are there stay
        arena.restore("main", work, tmp_path)
    names = [
        "cells/chain_sum-tracerl-0",
        *(f"rates/chain_sum-tracerl-1000-{r}" for r in ("0.0001", "0.001")),
    ]
    assert sorted(str(path.relative_to(work)) for path in work.glob("*/*")) == [
        f"{n}.json" for n in names
    ]
    assert (
        arena.chosen_rate(
            spec("tracerl"), work, spec_module.Unit("cell", "chain_sum", "tracerl", 0)
        )
        == 1e-3
    )
    assert json.loads((work / f"{names[0]}.json").read_text()) == runs[-1]
