"""The packed layout against one padded row per denoising round: same trajectories, same gradient.

    python benchmarks/tracerl_update.py                 # a quarter of an hour on a quiet core
    python benchmarks/tracerl_update.py --workloads "block 4" --rounds 1 --keep
    python benchmarks/tracerl_update.py --device cuda   # shapes of 1.7B and 4B, FlexAttention

TraceRL scores every token given the tokens that were revealed before it. The published layout is a padded row for
each denoising round under a dense mask, with logits at every token (`published_rows.py`). unmask packs
one clean copy and the noisy *blocks* that carry a target (`diffusion/layout.py`). Both are run with this
package's model and objective, forward and backward of one update without the optimizer.

    rows           as published, padded to the longest of the step
    rows, sorted   the same, sorted by length and padded to the longest of their pass only: what is left
                   of the ratio when all lengths are equal
    packed         `pack_views`, as the learner calls it
    old pass       the published pass without gradient over all rows, for the old log-probabilities; it
                   comes on top of `rows`

Workloads (`update_workloads.py`): `chain_sum`, the trajectories that one RL step of the quickstart trains
on; `block 4` .. `block 32`, trajectories of lognormal lengths under a model of 100M parameters; `full`,
the same under full attention, four views of each, where nothing is shared and only padding and
logits can be saved.

Reading the table: layouts run in turn, and `speed` is the median over rounds of the quotient rows /
layout of seconds: CPU seconds of one thread, or elapsed seconds on a GPU. Where `share` is n, a round
runs every n-th pass of a layout of rows, another one each round, and its seconds are scaled up by tokens;
rows of one shape cost the same. `packed` always runs whole. `TFLOP` is counted, not measured: matrix
products of layers and head, and the query-key pairs that attention computes, masked or not. Where
`speed` is below the quotient of TFLOP, the layout loses to overhead. `gradient` is the relative
difference of the whole gradient to that of `rows`, over all trajectories of `chain_sum` and the
shortest elsewhere; above `TOLERANCE` the program fails. `peak` is what a pass takes in addition to
weights and gradients, with gradient checkpointing: one published row, and the trajectory of mean lengths.

Writes `benchmarks/results/tracerl_update.json`, with the settings and the machine.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from chain_sum import chain_sum
from published_rows import rows
from rich.console import Console
from rich.table import Table
from setting import RESULTS, describe_machine, write_result
from shapes import QWEN3, SHAPES, VOCABULARY, model_spec, random_model
from update_cost import RUNS, count_work, gradient_difference, peak_mib, seconds
from update_workloads import MEANS, Workload, drawn, lognormal_lengths, packed

from unmask.engine.engine import Engine
from unmask.models.transformer import Model

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}  # of the whole gradient
BLOCKS = {"block 4": 4, "block 8": 8, "block 16": 16, "block 32": 32, "full": None}

# Prompt and response; tokens of a pass.
SIZES = {"784 + 2000": (784, 2000, 8192), "1024 + 8192": (1024, 8192, 32768)}
ON_GPU = {f"{shape}, {size}": (shape, size) for shape in ("1.7B", "4B") for size in SIZES}

# Every workload runs the first two of `RUNS`, the whole table is for those named here.
WHOLE = {"chain_sum", "block 4", *ON_GPU}


# Arguments that say nothing about one workload.
OF_PROGRAM = ("out", "keep", "workloads")


# --- measuring ------------------------------------------------------------------------------------


def sync_seconds(model: Model) -> float:
    """Return the elapsed seconds of a weight sync to an engine that shares the module, as in RL."""
    engine = Engine(model)
    began = time.perf_counter()
    engine.update_weights()
    return time.perf_counter() - began


def measure(work: Workload, names: Sequence[str], rounds: int, share: int) -> dict[str, Any]:
    """Time `names` of `RUNS` in turn, and compare gradients once."""
    shortest = min(work.views, key=lambda v: len(v.prompt_ids) + len(v.canvas_ids))
    checked = work if work.mean is None else replace(work, views=[shortest])
    difference = gradient_difference(checked)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names:
            work.model.zero_grad(set_to_none=True)
            of_run = 1 if name == "packed" else share
            times[name].append(seconds(work, RUNS[name], of_run, turn))
    counts = {name: count_work(work, RUNS[name].layout) for name in names if name != "old pass"}
    return {
        "layouts": {
            name: {
                "speed": _quotient(times["rows"], times[name]),
                "seconds": [round(own, 3) for own in times[name]],
                **count._asdict(),
            }
            for name, count in counts.items()
        },
        "old_pass_seconds": [round(own, 3) for own in times.get("old pass", ())],
        "gradient_difference": difference,
    }


def _quotient(baseline: Sequence[float], own: Sequence[float]) -> float:
    return round(median(row / mine for row, mine in zip(baseline, own, strict=True)), 3)


def measure_peaks(work: Workload) -> dict[str, float]:
    """Return the peaks of a published row, and of the trajectory of mean lengths in both layouts."""
    assert work.mean is not None
    alone = replace(work, views=[work.mean])
    peaks = {
        "rows": peak_mib(replace(work, token_budget=1), rows),
        "rows, own length": peak_mib(replace(alone, token_budget=1), rows),
        "packed": peak_mib(alone, packed),
    }
    return {name: round(peak, 1) for name, peak in peaks.items()}


# --- the program ----------------------------------------------------------------------------------


def build_workload(name: str, arguments: argparse.Namespace, directory: Path) -> Workload:
    """Return the workload of a name."""
    if name == "chain_sum":
        return chain_sum(arguments, directory)
    if name in ON_GPU:
        return gpu_workload(*ON_GPU[name], arguments)
    spec = model_spec(arguments.width, arguments.layers, arguments.vocabulary, BLOCKS[name])
    model = random_model(spec, arguments.seed, arguments.device, torch.float32)
    columns = [
        lognormal_lengths(arguments.trajectories, mean, arguments.seed + place)
        for place, mean in enumerate(arguments.means)
    ]
    lengths = list(zip(*columns, strict=True))
    return drawn(model, lengths, tuple(arguments.means), arguments.token_budget, arguments.seed)


def gpu_workload(shape: str, size: str, arguments: argparse.Namespace) -> Workload:
    """Return two trajectories of one length under a model of a published shape, in bfloat16."""
    width, layers, changes = SHAPES[shape]
    num_prompt, num_response, budget = SIZES[size]
    vocabulary, dtype = VOCABULARY, torch.bfloat16
    if arguments.smoke:
        width, layers, changes, vocabulary = 256, 1, {"num_heads": 16, "ffn_width": 512}, 64
        num_prompt, num_response, dtype = num_prompt // 64, num_response // 64, torch.float32
    spec = model_spec(width, layers, vocabulary, 4, **(QWEN3 | changes))
    model = random_model(spec, arguments.seed, arguments.device, dtype)
    model.backbone.gradient_checkpointing = (
        True  # as published; 36 layers of 32k tokens are 100 GiB
    )
    lengths = (num_prompt, num_response)
    return drawn(model, [lengths] * 2, lengths, budget, arguments.seed)


def describe(work: Workload) -> dict[str, Any]:
    """Return the size of a workload."""
    prompts, canvases = (
        [getattr(v, name).shape[0] for v in work.views] for name in ("prompt_ids", "canvas_ids")
    )
    return {
        "trajectories": len(work.views),
        "rounds": sum(len(v.target) for v in work.views),
        "targets": sum(int(v.target.sum()) for v in work.views),
        "prompt_tokens": [min(prompts), max(prompts)],
        "canvas_tokens": [min(canvases), max(canvases)],
        "parameters": sum(p.numel() for p in work.model.parameters()),
        "token_budget": work.token_budget,
    }


def show(name: str, size: dict[str, Any], found: dict[str, Any]) -> None:
    """Print one workload's table."""
    layouts, peaks = found["layouts"], found["peak_mib"]
    title = (
        f"{name}: {size['trajectories']} trajectories, {size['rounds']} rounds, "
        f"{size['parameters'] / 1e6:.1f}M parameters"
    )
    table = Table(title=title)
    headings = ("layout", "speed", "seconds", "tokens", "scored", "TFLOP", "peak MiB")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", no_wrap=True)
    baseline = layouts["rows"]
    for layout, own in layouts.items():
        peak = peaks.get("rows, own length" if layout == "rows, sorted" else layout)
        table.add_row(
            layout,
            f"{own['speed']:.2f}x",
            f"{median(own['seconds']):.2f}",
            f"{own['tokens']:,} ({baseline['tokens'] / own['tokens']:.2f}x)",
            f"{own['scored']:,}",
            f"{own['tflop']:.3f} ({baseline['tflop'] / own['tflop']:.2f}x)",
            "-" if peak is None else f"{peak:.0f}",
        )
    Console(width=max(Console().width, 110)).print(table)
    print_line(f"gradient differs by {found['gradient_difference']:.0e}")
    if "rows, sorted" in layouts:
        old, of_sorted = median(found["old_pass_seconds"]), layouts["rows, sorted"]["speed"]
        print_line(
            f"packed against sorted rows {layouts['packed']['speed'] / of_sorted:.2f}x; the old pass "
            f"takes {old:.2f} s more, with it {1 + old / median(baseline['seconds']):.2f} times that of rows"
        )
    if peaks.get("rows"):
        print_line(f"peak of the mean trajectory: {peaks['packed'] / peaks['rows']:.0%} of a row's")
    print_line(f"weight sync to the engine: {found['sync_seconds'] * 1000:.2f} ms")


def print_line(text: str) -> None:
    """Print a line below the tables."""
    Console(width=max(Console().width, 110)).print(text)


def read_arguments() -> argparse.Namespace:
    """Read the command line; `--smoke` is a tiny update of each workload, and writes nothing by itself."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    names = ("chain_sum", *BLOCKS, *ON_GPU)
    parser.add_argument(
        "--workloads", nargs="+", choices=names, help="all that are made for the device by default"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="chain_sum takes 5 times as many, blocks 8 .. full one",
    )
    parser.add_argument("--share", type=int, default=4, help="of the passes of rows that are run")
    parser.add_argument("--seed", type=int, default=0)
    small = parser.add_argument_group("chain_sum")
    small.add_argument("--sft-steps", type=int, default=200)
    small.add_argument("--prompts", type=int, default=64)
    large = parser.add_argument_group("block 4 .. full")
    large.add_argument("--trajectories", type=int, default=8)
    large.add_argument("--means", type=int, nargs=2, default=MEANS, help="of prompt and response")
    large.add_argument("--width", type=int, default=640)
    large.add_argument("--layers", type=int, default=12)
    large.add_argument("--vocabulary", type=int, default=32000)
    large.add_argument("--token-budget", type=int, default=3072)
    parser.add_argument(
        "--keep", action="store_true", help="keep other workloads' results that stand in --out"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "tracerl_update.json")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no GPU is here")
    if arguments.device == "cuda" and arguments.out == parser.get_default("out"):
        arguments.out = RESULTS / "tracerl_update-cuda.json"
    if arguments.smoke:
        arguments.rounds, arguments.sft_steps, arguments.prompts = 1, 2, 4
        arguments.trajectories, arguments.means = 2, (15, 50)
        arguments.width, arguments.layers, arguments.vocabulary = 64, 1, 64
        if arguments.out == parser.get_default("out"):
            arguments.out = None
    if arguments.workloads is None:
        arguments.workloads = names[: -len(ON_GPU)] if arguments.device == "cpu" else [*ON_GPU]
        if arguments.smoke:
            arguments.workloads = ["chain_sum", "block 4", "full", next(iter(ON_GPU))]
    arguments.task_size = ["task.size=400"] if arguments.smoke else []
    return arguments


def main() -> None:
    """Measure every workload, print the tables, write the JSON, and fail if gradients differ."""
    arguments = read_arguments()
    torch.set_num_threads(1)
    settings = {key: value for key, value in vars(arguments).items() if key not in OF_PROGRAM}
    result: dict[str, Any] = {"machine": describe_machine(), "workloads": {}}
    if arguments.keep and arguments.out is not None and arguments.out.exists():
        result["workloads"] = json.loads(arguments.out.read_text())["workloads"]
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        for name in arguments.workloads:
            work = build_workload(name, arguments, Path(place))
            rounds = arguments.rounds * (5 if name == "chain_sum" else 1) if name in WHOLE else 1
            share = 1 if name == "chain_sum" else arguments.share
            found = measure(work, [*RUNS][: None if name in WHOLE else 2], rounds, share)
            found["peak_mib"] = measure_peaks(work) if name in WHOLE - {"chain_sum"} else {}
            found["sync_seconds"] = sync_seconds(work.model)
            size = describe(work)
            show(name, size, found)
            result["workloads"][name] = {"settings": settings, "size": size, **found}
            write_result(arguments.out, result)
            if not found["gradient_difference"] <= TOLERANCE[work.model.dtype]:
                wrong.append(f"{name}: {found['gradient_difference']:.1e}")
            del work
    if wrong:
        raise SystemExit(f"gradients differ, the layouts are not the same: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
