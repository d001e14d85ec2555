"""The benchmarks still run, and the layouts they compare still have one gradient."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.forked_python import run_python
from tests.real_data import real_file

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    "name",
    [
        "quickstart_parts",
        "tracerl_update",
        "load_memory",
        "engine",
        "sft_step",
        "sft_methods",
        "critic",
    ],
)
def test_benchmark_runs(name: str, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    # Each method is a run of its own, under either attention.
    few = ["--attention", "block"] if name == "sft_methods" else []
    command = [BENCHMARKS / f"{name}.py", "--smoke", *few, "--out", out]
    done = run_python(command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result["machine"]["threads"] == 1
    if name == "quickstart_parts":
        for stage in ("sft", "rl"):
            assert sum(part["share"] for part in result[stage]["parts"]) == pytest.approx(
                1, abs=0.01
            )
            assert min(part["wall_s"] for part in result[stage]["parts"]) >= 0
    elif name == "load_memory":
        for measured in result["workloads"].values():
            assert 0 < measured["import_mib"] < measured["peak_mib"]
            assert measured["total"] > measured["above_import"] > 0
    elif name == "engine":
        assert result["group_prompt_fed"] == 1, "a group's prompt is fed once"
        for run in result["runs"].values():
            assert run["same_tokens"] == 1, "loop and engine reveal alike"
            assert 0 < run["of_bound"] < 1.5 and run["speed"] > 0
    elif name == "critic":
        assert 0 < result["summary"]["lambda 1"]["cosine"][0] <= 1
    elif name.startswith("sft_"):
        check_sft(name, result, out)
    else:
        whole = {"chain_sum": 2.0, "block 4": 3.0, "full": 1.5, "1.7B, 784 + 2000": 2.0}
        assert set(result["workloads"]) == set(whole)
        for workload, least in whole.items():
            layouts = result["workloads"][workload]["layouts"]
            assert layouts["rows"]["tflop"] > least * layouts["packed"]["tflop"]


@pytest.mark.parametrize(("name", "part"), [("exact_gradient", "jumps"), ("move_update", "cost")])
def test_a_part_of_a_benchmark_runs(name: str, part: str, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    command = [BENCHMARKS / f"{name}.py", "--smoke", "--only", part, "--out", out]
    done = run_python(command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())[part]
    if name == "exact_gradient":
        assert found and all(len(row["reward"]) == 5 for row in found.values())
        assert out.with_suffix(".svg").exists()
    else:
        assert found["rows_ratio"] > 1 and found["seconds_ratio"] > 0


def test_the_update_with_images_runs(tmp_path: Path) -> None:
    """Packed and published rows have one gradient; padding is what the first never has."""
    out = tmp_path / "result.json"
    command = [BENCHMARKS / "vision_update.py", "--smoke", "--out", out]
    done = run_python(command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for found in json.loads(out.read_text())["workloads"].values():
        assert found["gradient_difference"] < 1e-5
        tokens = {layout: own["tokens"] for layout, own in found["layouts"].items()}
        assert tokens["packed"] <= tokens["rows, own length"] < tokens["rows"]


def test_the_arena_runs_and_reports_again(tmp_path: Path) -> None:
    out, spec = tmp_path / "arena", tmp_path / "smoke.toml"
    text = (BENCHMARKS / "arena" / "smoke.toml").read_text()
    spec.write_text(text.replace("wd1_plus = {}\n", "").replace("lightningrl = {}\n", ""))
    command = [BENCHMARKS / "arena.py", spec, "--out", out, "--work"]
    done = run_python([*command, tmp_path / "work"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (out / "smoke.md").read_text()
    assert "2 of 2 runs are there." in text and "| enlarged |" in text
    runs = [json.loads(line) for line in (out / "smoke-chain_sum.jsonl").read_text().splitlines()]
    assert [run["kind"] for run in runs].count("rate") == 4, "two methods at two rates"
    for run in runs:
        if run["kind"] == "cell":
            assert run["failure"] is None and len(run["parallelism"]) == 2
            assert run["gap"]["mean"] < 1e-3
    assert (out / "smoke-chain_sum.svg").read_text().count("<g ") == 4, "three panels and a legend"
    again = run_python([*command, tmp_path / "empty", "--report-only"], cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (out / "smoke.md").read_text() == text, "the report follows from the runs it has left"


def check_sft(name: str, result: dict[str, Any], out: Path) -> None:
    if name == "sft_methods":
        assert out.with_suffix(".svg").exists()
        return
    assert set(result["attention"]) == {"block", "full"}
    assert min(result["lowest_share"].values()) > 0


def test_graders_are_right_on_sixty_problems(tmp_path: Path) -> None:
    data, out = real_file("gsm8k-test-400.jsonl").parent, tmp_path / "result.json"
    command = [BENCHMARKS / "graders.py", "--smoke", "--data", data, "--out", out]
    done = run_python(command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    math = json.loads(out.read_text())["math"]
    assert math["problems"] == 60
    assert {form["gold_right"] for form in math["forms"].values()} == {1.0}
    assert {form["plus_one_right"] for form in math["forms"].values()} == {0.0}


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures where there is a GPU")
def test_a_benchmark_of_the_gpu_reports_that_there_is_none(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    command = [BENCHMARKS / "paged_attention.py", "--smoke", "--out", out]
    done = run_python(command, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr == "paged_attention needs a CUDA device and triton; none is here\n"
    assert not out.exists()


def test_structured_output_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    done = run_python([BENCHMARKS / "constrained.py", "--smoke", "--out", out], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result["schemas"]["count"] == 12 and result["schemas"]["invalid"] == 0
    assert result["cost"]["states"] > 300 and result["cost"]["schema_ms"] > 0


def test_weak_scaling_of_two_ranks(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    done = run_python([BENCHMARKS / "ranks.py", "--smoke", "--out", out], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result["efficiency"] > 0
    assert result["rounds"]["one"][0]["sync_bytes"] == 0
    weights = result["rounds"]["two"][0]["sync_bytes"]
    assert weights > 4 * result["settings"]["width"] * 2048, "every weight, in fp32"
