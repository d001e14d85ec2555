"""Measured memory and seconds of training steps on this CPU against those that `unmask plan` predicts.

    python benchmarks/plan_error.py                 # some minutes on a quiet core, at most 8 GiB of memory

A random model with 1 GiB of fp32 weights takes two optimizer steps of `unmask sft`, with and without gradient
checkpointing, and two RL steps of a few responses, with and without LoRA, each in a process of its own. Both
also run on two ranks (gloo, FSDP2), with gradient checkpointing, of which the one with the higher peak counts.

`measured` is the peak of the process's resident memory (`VmHWM`) above the import baseline (`VmRSS` after the
same steps of a toy model, when all code has been imported); `predicted` is the peak of the plan for the same
config, made before the run. It is read before the checkpoint at the end, which a plan leaves out; `with_checkpoint`
is the peak after it. The C library returns every freed tensor to the system (`MALLOC_MMAP_THRESHOLD_`), so that
the peak is that of tensors. The last workload runs without that setting: what the allocator keeps adds to it, and
the bar does not apply. The bar is an error of at most 10 %. CPU seconds are those of the second step; they have
no bar, as the machine is shared.

Writes `benchmarks/results/plan_error.json`.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table
from setting import RESULTS, describe_machine, write_result
from shapes import model_spec, random_model

from unmask.checkpoints.checkpoint import save_model
from unmask.checkpoints.tokenizer import character_tokenizer
from unmask.configs.load import load_config
from unmask.configs.rl import RLConfig
from unmask.configs.sft import SFTConfig
from unmask.planning.devices import calibrated_cpu
from unmask.planning.job import Lengths
from unmask.planning.plan import Case, Plan, spec_of
from unmask.runs.read import read_lines
from unmask.types import Prompt

BAR = 0.10
# So many that a response of a random model seldom ends before `max_tokens`.
ALPHABET = "".join(map(chr, range(0x4E00, 0x4E00 + 4096)))
PROMPT, RESPONSE = 112, 200
SHAPES = {False: (1024, 17, 32_768), True: (64, 2, 4352)}  # width, layers, vocabulary
TWO = ("model.gradient_checkpointing=true", "optimizer.token_budget=512")  # for 8 GiB of memory
WORKLOADS: dict[str, tuple[str, tuple[str, ...]]] = {
    "sft": ("sft", ()),
    "sft, checkpointed": ("sft", ("model.gradient_checkpointing=true",)),
    "rl": ("rl", ()),
    "rl, lora": ("rl", ("lora.rank=16",)),
    "sft, two ranks": ("sft", TWO),
    "rl, two ranks": ("rl", TWO),
    "sft, default malloc": ("sft", ()),
}
UNBOUNDED = {"sft, default malloc"}
RANKS = {"sft, two ranks": 2, "rl, two ranks": 2}


def share_of_even(prompt: Prompt, response: str) -> float:
    """Reward a response for every character with an even code point."""
    return sum(ord(c) % 2 == 0 for c in response) / max(1, len(response))


def config_of(kind: str, words: list[str]) -> SFTConfig | RLConfig:
    """Return the config of some words."""
    return load_config(SFTConfig if kind == "sft" else RLConfig, [], words)[0]


def write_inputs(place: Path, is_toy: bool) -> None:
    """Write a random checkpoint, demonstrations of one length, and questions."""
    place.mkdir(exist_ok=True)
    width, layers, vocabulary = SHAPES[is_toy]
    spec = replace(model_spec(width, layers, vocabulary, 4), mask_id=1, eos_ids=(0,))
    model = random_model(spec, 0, "cpu", torch.float32)
    character_tokenizer(ALPHABET, place / "model")
    save_model(model, place / "model")
    records = [
        {"prompt": ALPHABET[n] * PROMPT, "response": ALPHABET[: RESPONSE - 1]} for n in range(8)
    ]
    (place / "pairs.json").write_text(json.dumps(records))
    asked = [{"question": record["prompt"], "ground_truth_answer": "7"} for record in records]
    (place / "questions.json").write_text(json.dumps(asked))


def words_of(kind: str, place: Path, run: str) -> list[str]:
    """Return the config words of a workload without its own changes."""
    shared = [f"run.dir={place / run}", f"model.path={place / 'model'}", "steps=2", "save_every=0"]
    shared += ["optimizer.token_budget=1024", "eval.problems=0", "run.trajectories=0"]
    if kind == "sft":
        return [*shared, f"data.path={place / 'pairs.json'}", "data.batch_size=4"]
    return [
        *shared,
        *("task.kind=json", "task.template={question}", "task.reward=plan_error:share_of_even"),
        *(f"task.{part}={place / 'questions.json'}" for part in ("train", "validation")),
        *("rollout.prompts=2", "rollout.responses=2", "sampling.max_tokens=64"),
        *("sampling.strategy=static", "filter.drop_uniform=false"),
    ]


def status(key: str) -> int:
    """Return a number of bytes of this process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def run_child(kind: str, toy: list[str], words: list[str], found: str) -> None:
    """Train the toy, then the model, in this process or rank, and write its memory to `found` and the rank."""
    from unmask.distributed.world import ALONE, world_of_group
    from unmask.trainers.checkpointer import Checkpointer
    from unmask.trainers.rl import train_rl
    from unmask.trainers.sft import train_sft

    world = ALONE
    if "WORLD_SIZE" in os.environ:  # set by torchrun
        dist.init_process_group("gloo")
        world = world_of_group(None, torch.device("cpu"))
    train = train_sft if kind == "sft" else train_rl
    train(config_of(kind, toy), world=world)
    gc.collect()
    imported = status("VmRSS")
    memory = {"imported": imported}
    save = Checkpointer.save

    def save_measured(self: Checkpointer) -> None:
        memory.setdefault("peak", status("VmHWM"))
        save(self)

    Checkpointer.save = save_measured
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again
    train(config_of(kind, words), world=world)
    memory["with_checkpoint"] = status("VmHWM")
    Path(f"{found}{world.rank}").write_text(json.dumps(memory))


def plan_of(kind: str, words: list[str], count: int) -> Plan:
    """Return the prediction for a config; the lengths are those of `write_inputs`, one token per denoising step."""
    config = config_of(kind, words)
    response = config.sampling.max_tokens if isinstance(config, RLConfig) else RESPONSE
    lengths = Lengths(PROMPT, response, 1.0)
    return Case(config, spec_of(config), calibrated_cpu(config.run.threads), count, lengths).plan()


def measure(name: str, place: Path) -> dict[str, Any]:
    """Run one workload and compare it with its prediction."""
    kind, changes = WORKLOADS[name]
    run = name.replace(", ", "-")
    toy, words = ([*words_of(kind, p, run), *changes] for p in (place / "toy", place))
    count = RANKS.get(name, 1)
    plan = plan_of(kind, words, count)
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command = [sys.executable, *(torchrun if count > 1 else []), __file__, "--child"]
    arguments = [kind, toy, words, str(place / "found")]
    exact = {} if name in UNBOUNDED else {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [*command, json.dumps(arguments)],
        env=os.environ | exact | {"PYTHONPATH": os.pathsep.join([*sys.path])},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    ranks = [json.loads((place / f"found{rank}").read_text()) for rank in range(count)]
    found = max(ranks, key=lambda own: own["peak"] - own["imported"])
    step = list(read_lines(place / run / "metrics.jsonl"))[-1]
    measured, predicted = found["peak"] - found["imported"], plan.memory.peak
    seconds = {"update": (step["update_cpu_s"], plan.seconds.update)}
    if kind == "rl":
        seconds["rollout"] = (step["rollout_cpu_s"], plan.seconds.rollout)
    return {
        "imported_mib": mib(found["imported"]),
        "measured_mib": mib(measured),
        "with_checkpoint_mib": mib(found["with_checkpoint"] - found["imported"]),
        "predicted_mib": mib(predicted),
        "error": round(predicted / measured - 1, 4),
        "parts_mib": {p.name: [mib(p.rollout), mib(p.update)] for p in plan.memory.parts},
        "packed_tokens": [step.get("packed_tokens"), round(plan.job.packed)],
        "seconds": {
            stage: {
                "measured": round(spent, 2),
                "predicted": round(expected, 2),
                "error": round(expected / spent - 1, 3),
            }
            for stage, (spent, expected) in seconds.items()
        },
    }


def mib(num_bytes: float) -> float:
    """Return bytes in MiB."""
    return round(num_bytes / 2**20, 1)


def main() -> None:
    """Measure every workload, print a table and write the JSON; exit code 1 above the bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=WORKLOADS, action="append", help="run these")
    parser.add_argument("--smoke", action="store_true", help="a toy, no verdict")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    args = parser.parse_args()
    if args.child:
        run_child(*json.loads(args.child))
        return
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_inputs(place, args.smoke)
        write_inputs(place / "toy", is_toy=True)
        for name in args.only or WORKLOADS:
            found[name] = measure(name, place)
            print(json.dumps({name: found[name]}), flush=True)
    table = Table("workload", "measured MiB", "predicted MiB", "error", "seconds' error")
    for name, row in found.items():
        errors = ", ".join(f"{stage} {own['error']:+.0%}" for stage, own in row["seconds"].items())
        texts = (f"{row['measured_mib']:,}", f"{row['predicted_mib']:,}", f"{row['error']:+.1%}")
        table.add_row(name, *texts, errors)
    Console().print(table)
    holds = all(abs(row["error"]) <= BAR for name, row in found.items() if name not in UNBOUNDED)
    result = {"machine": describe_machine(), "bar": BAR, "holds": holds, "workloads": found}
    default = None if args.smoke or args.only else RESULTS / "plan_error.json"
    write_result(args.out or default, result)
    sys.exit(0 if holds or args.smoke or args.only else 1)


if __name__ == "__main__":
    main()
