"""Kill an RL run at random points, resume it each time, and compare the end with an uninterrupted run.

    python benchmarks/kills.py --kills 50

Three kinds of SIGKILL: while the process loads, at a random moment of the loop, and while a
checkpoint is being written or dropped. Every process runs the real command with `--resume`; a run
that ends before the kills are used up is followed by another. The bits that must agree:
weights, optimizer state, source and trajectories; and all metrics except times.

Writes `benchmarks/results/kills.json` and prints a table of where the kills hit.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from unmask.configs.load import load_config
from unmask.configs.sft import SFTConfig
from unmask.trainers.quickstart import make_base, shipped_config
from unmask.trainers.sft import train_sft

RESULTS = Path(__file__).parent / "results"
SETTINGS = [
    *("save_every=2", "rollout.prompts=8", "eval.every=10", "eval.problems=20"),
    *("task.size=400", "run.trajectories=4"),
]
KINDS = ("load", "loop", "save")
SHARES = (0.15, 0.55, 0.3)


def main() -> None:
    """Kill, compare, report; exit code 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, help="made by a short SFT when not given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model = arguments.model or _make_model(place)
        words = [*SETTINGS, f"steps={arguments.steps}", f"model.path={model}"]
        start = time.perf_counter()
        assert _start(words, place / "whole").wait() == 0
        whole_s = time.perf_counter() - start
        start = time.perf_counter()
        kills = _kill_often(words, place, arguments, whole_s)
        killed_s = time.perf_counter() - start
        compared = [
            _compare(place / "whole", place / f"killed-{number}", arguments.steps)
            for number in range(kills[-1]["run"] + 1)
        ]
    report = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "config": "configs/rl/chain_sum.toml",
        "settings": [*SETTINGS, f"steps={arguments.steps}"],
        "seed": arguments.seed,
        "num_kills": len(kills),
        "num_runs": len(compared),
        "identical": all(same for run in compared for same in run.values()),
        "compared": compared,
        "uninterrupted_s": round(whole_s, 1),
        "with_kills_s": round(killed_s, 1),
        "kills": kills,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "kills.json").write_text(json.dumps(report, indent=2) + "\n")
    _print(report)
    sys.exit(0 if report["identical"] else 1)


def _make_model(place: Path) -> Path:
    """Train for a moment, so that rewards differ and every step has something to learn."""
    words = [f"run.dir={place / 'sft'}", f"model.path={place / 'base'}", "steps=60"]
    words += ["eval.problems=0", "task.size=400"]
    config, _ = load_config(SFTConfig, [shipped_config("sft", "chain_sum")], words)
    make_base(config, place / "base", seed=0)
    return train_sft(config)


def _start(words: Sequence[str], run: Path) -> subprocess.Popen[bytes]:
    file = shipped_config("rl", "chain_sum")
    command = [sys.executable, "-m", "unmask", "rl", str(file), *words, f"run.dir={run}"]
    return subprocess.Popen([*command, "--resume"], stderr=subprocess.DEVNULL)


def _kill_often(
    words: Sequence[str], place: Path, arguments: argparse.Namespace, whole_s: float
) -> list[dict[str, Any]]:
    """Start and kill as often as asked for, then let the last run end."""
    draw, number = random.Random(arguments.seed), 0
    step_s = whole_s / arguments.steps
    kills: list[dict[str, Any]] = []
    while len(kills) < arguments.kills:
        run = place / f"killed-{number}"
        (kind,) = draw.choices(KINDS, SHARES)
        process = _start(words, run)
        _wait_for_moment(process, run, kind, draw, step_s)
        process.kill()
        if process.wait() == 0:
            number += 1
            continue
        kills.append({"run": number, "kind": kind, **_state(run)})
        print(len(kills), kills[-1], flush=True)
    assert _start(words, place / f"killed-{kills[-1]['run']}").wait() == 0
    return kills


def _wait_for_moment(
    process: subprocess.Popen[bytes], run: Path, kind: str, draw: random.Random, step_s: float
) -> None:
    """Wait for the moment of a kill, or for the end of the process."""
    if kind == "load":
        time.sleep(draw.uniform(0.0, 4.0))
        return
    before = _size(run)
    _wait(process, lambda: _size(run) not in (None, before))
    time.sleep(draw.uniform(0.0, 5.0) * step_s)
    if kind == "save":
        _wait(process, lambda: any((run / "checkpoints").glob("*.tmp-*")))
        time.sleep(draw.uniform(0.0, 0.02))


def _wait(process: subprocess.Popen[bytes], happened: Callable[[], bool]) -> None:
    while process.poll() is None and not happened():
        time.sleep(0.0005)


def _size(run: Path) -> int | None:
    """Return the size of the metrics: it changes when the loop begins."""
    path = run / "metrics.jsonl"
    return path.stat().st_size if path.is_file() else None


def _state(run: Path) -> dict[str, Any]:
    """Return the state that a kill has left."""
    metrics = run / "metrics.jsonl"
    lines = metrics.read_bytes().count(b"\n") if metrics.is_file() else 0
    checkpoints = sorted(p.name for p in (run / "checkpoints").glob("step-*") if not p.suffix)
    unfinished = [p.name for p in (*run.glob("*.tmp-*"), *run.glob("checkpoints/*.tmp-*"))]
    return {
        "step": lines,
        "checkpoint": int(checkpoints[-1].removeprefix("step-")) if checkpoints else 0,
        "unfinished": [name.partition(".tmp-")[0] for name in unfinished],
    }


def _compare(whole: Path, killed: Path, steps: int) -> dict[str, bool]:
    last = f"checkpoints/step-{steps:06d}"
    files = [
        "model/model.safetensors",
        f"{last}/model/model.safetensors",
        f"{last}/optimizer.safetensors",
        f"{last}/state.json",
        "best/model.safetensors",
        "trajectories.jsonl",
    ]
    same = {name: (whole / name).read_bytes() == (killed / name).read_bytes() for name in files}
    return same | {"metrics.jsonl": _numbers(whole) == _numbers(killed)}


def _numbers(run: Path) -> list[dict[str, Any]]:
    """Return the metrics without times and speeds."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if not k.endswith("_s")} for line in lines]


def _print(report: dict[str, Any]) -> None:
    print("| killed while | kills | with half a checkpoint left | steps done again, most |")
    print("|---|---|---|---|")
    for kind in KINDS:
        found = [kill for kill in report["kills"] if kill["kind"] == kind]
        half = sum(any(name.startswith("step-") for name in kill["unfinished"]) for kill in found)
        lost = max((kill["step"] - kill["checkpoint"] for kill in found), default=0)
        print(f"| {kind} | {len(found)} | {half} | {lost} |")
    runs, whole = report["num_runs"], report["uninterrupted_s"]
    print(f"{runs} runs of {whole} s, identical to the uninterrupted one: {report['identical']}")


if __name__ == "__main__":
    main()
