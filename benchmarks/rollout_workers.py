"""What a rollout worker costs and gains: RL steps with the engine in the training process, and in a worker.

    python benchmarks/rollout_workers.py             # about ten minutes on two quiet cores

Three settings take turns (own, worker, ahead, own, ...), each a whole run with one thread per process:

    own      rollout.workers = 0
    worker   rollout.workers = 1, staleness 0: the same data; the difference is the transfer of weights, requests
             and trajectories
    ahead    rollout.workers = 1, staleness 1: the worker writes the next batch during the update

A step's time is the sum of its stages on the clock; the first two steps of a run warm up and are left out. Next to
the median stands the fastest step of a setting, which other work on the machine disturbs least. `saved` is the
share of `worker`'s step that `ahead` saves, of medians and of fastest steps; at most it is the shorter of rollout and
update over their sum (`most`): anything above is noise.

Writes `benchmarks/results/rollout_workers.json`, with the settings, the machine and its load.
"""

import argparse
import json
import os
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from setting import RESULTS, describe_machine, write_result
from shapes import model_spec, random_model

from unmask.checkpoints.checkpoint import save_model
from unmask.checkpoints.tokenizer import character_tokenizer
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.trainers.rl import train_rl
from unmask.types import Prompt

ALPHABET = "0123456789+-=; abcde"
STALE = ["rollout.workers=1", "rollout.staleness=1", "loss.max_importance=2"]
SETTINGS = {"own": [], "worker": ["rollout.workers=1"], "ahead": STALE}
WARM_UP = 2


def share_of_sevens(prompt: Prompt, response: str) -> float:
    """Reward a response for its sevens."""
    return response.count("7") / max(len(response), 1)


def prepare(place: Path, args: argparse.Namespace) -> None:
    """Write a random model with a tokenizer of characters, and questions."""
    character_tokenizer(ALPHABET, place / "model")
    spec = model_spec(args.width, args.layers, len(ALPHABET) + 2, block=4)
    save_model(random_model(spec, 0, "cpu", torch.float32), place / "model")
    questions = [{"question": f"{n}+{n}=", "ground_truth_answer": "7"} for n in range(64)]
    (place / "questions.json").write_text(json.dumps(questions))


def run(place: Path, name: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Train in one setting and return the metrics of the steps that count."""
    words = [
        *(f"model.path={place / 'model'}", f"steps={args.steps}", "run.threads=1"),
        *("task.kind=json", "task.template={question}", f"task.train={place / 'questions.json'}"),
        *(f"task.reward={Path(__file__).stem}:share_of_sevens", "filter.drop_uniform=false"),
        *(f"rollout.prompts={args.prompts}", "rollout.responses=8", "eval.problems=0"),
        *(f"sampling.max_tokens={args.length}", "run.trajectories=0", "save_every=0"),
    ]
    with TemporaryDirectory() as directory:
        words.append(f"run.dir={Path(directory) / 'run'}")
        config = load_config(RLConfig, [], [*words, *SETTINGS[name]])[0]
        train_rl(config)
        lines = (Path(directory) / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines][WARM_UP:]


def step_s(line: dict[str, Any]) -> float:
    """Return the seconds of a step."""
    return sum(value for name, value in line.items() if name.endswith("_wall_s"))


def summary(rounds: dict[str, list[list[dict[str, Any]]]]) -> dict[str, Any]:
    """Return the medians of all settings and what they differ by."""
    steps = {name: [x for one in found for x in one] for name, found in rounds.items()}
    middle = {name: median(map(step_s, lines)) for name, lines in steps.items()}
    fastest = {name: min(map(step_s, lines)) for name, lines in steps.items()}
    parts = [median(x[f"{part}_wall_s"] for x in steps["own"]) for part in ("rollout", "update")]
    return {
        "step_s": {name: round(value, 4) for name, value in middle.items()},
        "fastest_step_s": {name: round(value, 4) for name, value in fastest.items()},
        "step_s_of_rounds": {
            name: [round(median(map(step_s, one)), 4) for one in found]
            for name, found in rounds.items()
        },
        "rollout_s": round(parts[0], 4),
        "update_s": round(parts[1], 4),
        "overhead_s": round(middle["worker"] - middle["own"], 4),
        "fastest_overhead_s": round(fastest["worker"] - fastest["own"], 4),
        "weight_sync_s": round(median(x["weight_sync_s"] for x in steps["worker"]), 4),
        "weight_sync_bytes": steps["worker"][0]["weight_sync_bytes"],
        "saved": round(1 - middle["ahead"] / middle["worker"], 4),
        "fastest_saved": round(1 - fastest["ahead"] / fastest["worker"], 4),
        "most": round(min(parts) / sum(parts), 4),
        "importance_max": max(x["importance_max"] for x in steps["ahead"]),
    }


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=4, help="of a step, 8 responses each")
    parser.add_argument("--length", type=int, default=32, help="most tokens of a response")
    parser.add_argument("--steps", type=int, default=7, help="of a run, two of which warm up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="a toy, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS / "rollout_workers.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.smoke:
        args.width, args.layers, args.prompts, args.length = 128, 2, 2, 8
        args.steps, args.rounds = 3, 1
    load = os.getloadavg()[0]
    with TemporaryDirectory() as directory:
        place = Path(directory)
        prepare(place, args)
        rounds: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in SETTINGS}
        for _ in range(args.rounds):
            for name in SETTINGS:
                rounds[name].append(run(place, name, args))
    found = summary(rounds)
    for name, value in found["step_s"].items():
        print(f"{name:8} {value:8.3f} s per step")
    for kind in ("", "fastest_"):
        overhead, saved = found[f"{kind}overhead_s"], found[f"{kind}saved"]
        print(f"{kind or 'median_'}step: a worker takes {overhead:.3f} s, ahead saves {saved:.0%}")
    settings = {k: v for k, v in vars(args).items() if k not in ("smoke", "out")}
    loads = [round(load, 1), round(os.getloadavg()[0], 1)]
    machine = describe_machine() | {"load_before_and_after": loads}
    write_result(args.out, {"settings": settings, "machine": machine, **found})


if __name__ == "__main__":
    main()
