"""Weak scaling of training: two ranks, each pinned to a core, against one with an unrelated copy on the other core.

    python benchmarks/ranks.py                       # some minutes on two quiet cores

`one` is a learner of one process on core 0, while the same work runs in another process on core 1, which it has
nothing to do with: the two share memory bandwidth and the processor's clock as two ranks would. `two` are two
ranks (gloo, FSDP2), one per core, with twice the demonstrations. The two settings take turns (one, two, one, ...);
a step's time is the median over all steps of a setting, and `efficiency` is one's over two's: at least 0.9.

After each step of two ranks the weights are gathered into a whole copy on every rank, as an engine has one:
`sync`, in seconds and bytes, is apart from the step's time.

Writes `benchmarks/results/ranks.json`, with the settings and the machine.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from setting import RESULTS, describe_machine, write_result
from shapes import model_spec, random_model

from unmask.configs.optimizer import OptimizerConfig
from unmask.configs.sft import SFTConfig
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import Views, views_of_responses
from unmask.distributed.world import ALONE, World, world_of_group
from unmask.models.transformer import Model
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_supervised_objective

BLOCK, VOCABULARY = 4, 2048
BAR = 0.9


def demonstration_views(count: int, length: int) -> list[Views]:
    """Return one noisy view of each of `count` responses after prompts of a quarter of their length."""
    rng = torch.Generator().manual_seed(0)
    pairs = [
        tuple(
            torch.randint(2, 1000, (size,), generator=rng).tolist()
            for size in (length // 4, length)
        )
        for _ in range(count)
    ]
    noise = NoiseSchedule(0.1, 0.9), 1
    return views_of_responses([(p, r) for p, r in pairs], BLOCK, noise, range(count))


def build_model(args: argparse.Namespace) -> Model:
    """Return random weights of the chosen size."""
    spec = model_spec(args.width, args.layers, VOCABULARY, BLOCK)
    return random_model(spec, 0, "cpu", torch.float32)


def run(rank: int, size: int, store: str, args: argparse.Namespace, results: Any) -> None:
    """Train on one core and send the seconds of each step, of each sync, and its bytes."""
    os.sched_setaffinity(0, {rank % (os.cpu_count() or 1)})
    torch.set_num_threads(1)
    world = ALONE
    copies = size == 1
    if not copies:
        limit = timedelta(minutes=30)
        dist.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=limit
        )
        world = world_of_group(None, torch.device("cpu"))
    found = train(world, args)
    results.put((rank, found))
    if not copies:
        dist.barrier()
        dist.destroy_process_group()


def train(world: World, args: argparse.Namespace) -> dict[str, Any]:
    """Take `args.steps` steps, the first of which is not counted."""
    model = build_model(args)
    learner = Learner(model, OptimizerConfig(lr=1e-5, token_budget=args.budget), world=world)
    objective = build_supervised_objective(SFTConfig.model_validate({"model": {"path": "-"}}))
    views = demonstration_views(args.count * world.size, args.length)
    own = dict(model.named_parameters())
    found: dict[str, Any] = {"step_s": [], "sync_s": [], "sync_bytes": 0}
    for step in range(args.steps + 1):
        start = time.perf_counter()
        update = learner.update(views, objective, 1000.0)
        middle = time.perf_counter()
        moved = 0
        with torch.no_grad():
            for name, weight in learner.whole_weights():
                own[name].copy_(weight)
                moved += weight.nbytes
        end = time.perf_counter()
        if step:
            found["step_s"].append(round(middle - start, 4))
            found["sync_s"].append(round(end - middle, 4))
        found["sync_bytes"], found["packed_tokens"] = moved, update.values["packed_tokens"]
    return found


def settings_in_turn(args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Return the measurements of rank 0 in each round of `one` and `two`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["unmask.trainers.learner", "unmask.trainers.losses"])
    found: dict[str, list[dict[str, Any]]] = {"one": [], "two": []}
    for _ in range(args.rounds):
        for name, size in (("one", 1), ("two", 2)):
            results = context.Queue()
            with TemporaryDirectory() as place:
                store = str(Path(place) / "store")
                processes = [
                    context.Process(target=run, args=(rank, size, store, args, results))
                    for rank in range(2)
                ]
                for process in processes:
                    process.start()
                of_rank = dict(results.get() for _ in processes)
                for process in processes:
                    process.join()
            found[name].append(of_rank[0])
    return found


def steps_of(rounds: Sequence[dict[str, Any]], key: str) -> list[float]:
    """Return the seconds of all rounds."""
    return [value for found in rounds for value in found[key]]


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=12, help="demonstrations of each rank")
    parser.add_argument("--length", type=int, default=256, help="tokens of a response")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="of a round, after one that warms up")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument(
        "--budget", type=int, default=8192, help="tokens of a pack; the learner's default"
    )
    parser.add_argument("--smoke", action="store_true", help="a toy, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS / "ranks.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.smoke:
        args.count, args.length, args.rounds, args.steps = 2, 32, 1, 1
        args.width, args.layers = 64, 1
    found = settings_in_turn(args)
    step_s = {name: median(steps_of(rounds, "step_s")) for name, rounds in found.items()}
    efficiency = step_s["one"] / step_s["two"]
    sync_s = median(steps_of(found["two"], "sync_s"))
    print(
        f"step: one {step_s['one']:.3f} s, two {step_s['two']:.3f} s; efficiency {efficiency:.3f} "
        f"(bar {BAR}); sync {sync_s:.3f} s, {found['two'][0]['sync_bytes'] / 2**20:.0f} MiB"
    )
    settings = {key: value for key, value in vars(args).items() if key not in ("out", "smoke")}
    result = {"machine": describe_machine(), "settings": settings, "median_step_s": step_s}
    summary = {"efficiency": round(efficiency, 3), "sync_s": sync_s, "bar": BAR}
    write_result(args.out, {**result, **summary, "rounds": found})


if __name__ == "__main__":
    main()
