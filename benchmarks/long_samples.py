"""Peak memory and seconds of one SFT update on one long sample, for every kind of view.

    python benchmarks/long_samples.py                          # 8k, 16k and 32k tokens on CPU, some minutes each
    python benchmarks/long_samples.py --lengths 8192 --kinds block

A sample has a prompt of an eighth of its tokens. Kinds are those of `[views]`: `block` and `trace` in a
block-causal model, `random` and `semi_ar` under full attention, and `left_to_right` in a block-causal model, with a
mask per token. `trace` has a step map whose blocks of 4 took 1 to 4 denoising steps, `semi_ar` two blocks, and so
two views. The model is trained with activation checkpointing, under a budget of twice the sample.

Every update runs in a process of its own. `peak_mib` is what it adds to the process that holds the model and the
optimizer's moments: the high-water mark (`VmHWM`) after the update minus the memory (`VmRSS`) before it. `cpu_s` are
seconds of one thread. `bytes_per_token` is the peak over the sample's tokens: constant where memory is linear.

Writes `benchmarks/results/long_samples.json`, with the settings and the machine.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from setting import RESULTS, describe_machine, write_result
from shapes import model_spec, random_model

from unmask.configs.sft import SFTConfig
from unmask.models import heads
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_supervised_objective
from unmask.trainers.sft import noisy_views, weighted_views

BLOCK = 4
# Whether attention is full, and the section `[views]`.
KINDS: dict[str, tuple[bool, dict[str, Any]]] = {
    "block": (False, {"kind": "block"}),
    "random": (True, {"kind": "random"}),
    "semi_ar": (True, {"kind": "semi_ar"}),
    "trace": (False, {"kind": "trace"}),
    "left_to_right": (False, {"kind": "left_to_right"}),
}
MIB = 2**20


def demonstration(length: int, vocabulary: int) -> Any:
    """Return a sample of `length` tokens with a step map."""
    from unmask.data.demonstrations import Demonstration

    rng = random.Random(length)
    ids = tuple(rng.randrange(2, vocabulary) for _ in range(length))
    prompt, response = ids[: length // 8], ids[length // 8 :]
    steps = tuple(index // BLOCK * BLOCK + rng.randrange(BLOCK) for index in range(len(response)))
    return Demonstration(prompt, response, steps)


def update(args: argparse.Namespace, kind: str, length: int) -> dict[str, Any]:
    """Return peak memory, seconds and tokens of an update; in a process that does nothing else."""
    if args.chunk:
        heads.CHUNK_ELEMENTS = {"cpu": args.chunk}
    is_full, views = KINDS[kind]
    if kind == "semi_ar":
        views = {**views, "train_block": length * 7 // 16}
    spec = model_spec(args.width, args.layers, args.vocabulary, None if is_full else BLOCK)
    model = random_model(spec, 0, "cpu", torch.float32)
    model.backbone.gradient_checkpointing = True
    config = SFTConfig.model_validate(
        {
            "model": {"path": "-"},
            "views": views,
            "optimizer": {"token_budget": max(2 * length, 4096)},
        }
    )
    learner = Learner(model, config.optimizer)
    objective = build_supervised_objective(config)

    def step(tokens: int) -> float:
        batch = [demonstration(tokens, args.vocabulary)]
        noisy = noisy_views(batch, [1] * len(batch), config, spec, 1, 0)
        noisy, total = weighted_views(noisy, config, tokens)
        return learner.update(noisy, objective, total).values["packed_tokens"]

    step(64)  # the optimizer's moments, and code that is loaded at its first call
    before, began = memory("VmRSS"), time.process_time()
    packed = step(length)
    spent = time.process_time() - began
    peak = memory("VmHWM") - before
    return {
        "packed_tokens": int(packed),
        "peak_mib": round(peak / MIB, 1),
        "bytes_per_token": round(peak / length),
        "cpu_s": round(spent, 2),
    }


def memory(field: str) -> int:
    """Return a size in bytes from this process's status."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def in_child(arguments: Sequence[str], kind: str, length: int) -> dict[str, Any]:
    """Return what `update` measures in a fresh process."""
    command = [sys.executable, __file__, *arguments, "--child", kind, str(length)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def main() -> None:
    """Measure every kind and length, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192, 16384, 32768])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--chunk", type=int, default=0, help="logits held at a time")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--smoke", action="store_true", help="a toy, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS / "long_samples.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.child:
        print(json.dumps(update(args, args.child[0], int(args.child[1]))))
        return
    if args.smoke:
        args.lengths = [256]
    passed = [
        f"--{name}={getattr(args, name)}" for name in ("width", "layers", "vocabulary", "chunk")
    ]
    columns = ("packed_tokens", "peak_mib", "bytes_per_token", "cpu_s")
    table = Table("views", "tokens", *columns, title="One SFT update on one sample")
    found: dict[str, dict[int, dict[str, Any]]] = {kind: {} for kind in args.kinds}
    for kind in args.kinds:
        for length in args.lengths:
            measured = found[kind][length] = in_child(passed, kind, length)
            table.add_row(kind, str(length), *(str(measured[name]) for name in columns))
    Console().print(table)
    names = ("lengths", "kinds", "width", "layers", "vocabulary", "chunk")
    settings = {name: getattr(args, name) for name in names}
    result = {"machine": describe_machine(), "settings": settings, "block": BLOCK}
    write_result(args.out, {**result, "views": found})


if __name__ == "__main__":
    main()
