"""Results of the quickstart by seed: accuracy before and after RL, parallelism, seconds.

    python benchmarks/quickstart.py --seeds 0 1 2 --at-once 1

Writes `benchmarks/results/quickstart-<task>.json` and prints the table that the README shows.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run the quickstart for every seed and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="chain_sum")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--at-once", type=int, default=1, help="seeds that run at the same time")
    arguments = parser.parse_args()
    # Threads that wait for the processes of `_run`.
    with ThreadPoolExecutor(arguments.at_once) as pool:
        summaries = list(pool.map(partial(_run, arguments.task), arguments.seeds))
    report = {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "at_once": arguments.at_once,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "runs": summaries,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"quickstart-{arguments.task}.json").write_text(json.dumps(report, indent=2) + "\n")
    console = Console()
    console.print(
        "| seed | SFT | then TraceRL | control: more SFT, stopped early | tokens / denoising step | "
        "CPU s: SFT, RL, control |"
    )
    console.print("|---|---|---|---|---|---|")
    for run in summaries:
        console.print(_row(run), soft_wrap=True)


def _run(task: str, seed: int) -> dict:
    """Run one quickstart in a process of its own, so that its CPU seconds are its own."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place) / "run"
        words = ["quickstart", "--task", task, "--seed", str(seed), "--dir", str(directory)]
        subprocess.run([sys.executable, "-m", "unmask", *words], check=True)
        return json.loads((directory / "summary.json").read_text())


def _row(run: dict) -> str:
    shares = [
        f"{s['accuracy']:.1%} ({s['ci95'][0]:.1%} .. {s['ci95'][1]:.1%})"
        for s in (run["sft"], run["rl"], run["control"])
    ]
    speeds = " -> ".join(f"{run[k]['tokens_per_denoising_step']:.2f}" for k in ("sft", "rl"))
    seconds = ", ".join(f"{run['cpu_s'][k]:.0f}" for k in ("sft", "rl", "control"))
    return f"| {run['seed']} | {' | '.join(shares)} | {speeds} | {seconds} |"


if __name__ == "__main__":
    main()
