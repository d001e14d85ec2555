"""The packed layout against one padded row per denoising round: same trajectories, same gradient.

    python benchmarks/tracerl_update.py                 # about fifteen minutes on one core
    python benchmarks/tracerl_update.py --workloads "block 4" --rounds 5 --share 1
    python benchmarks/tracerl_update.py --device cuda   # shapes of 1.7B and 4B, FlexAttention

TraceRL scores every token given what was revealed when it was. The published layout is a padded row for
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
layout of seconds: CPU seconds of one thread, or wall seconds on a GPU. Where `share` is n, a round
runs every n-th pass of a layout of rows, another one each round, and its seconds are scaled up by tokens;
rows of one shape cost the same. `packed` always runs whole. `TFLOP` is counted, not measured: matrix
products of layers and head, and the query-key pairs that attention computes, masked or not. Where
`speed` is below the quotient of TFLOP, the layout loses to overhead. `gradient` is the relative
difference of the whole gradient to that of `rows`, over all trajectories of `chain_sum` and the
shortest elsewhere; above `TOLERANCE` the program fails. `peak` is what a pass takes beside weights
and gradients, with gradient checkpointing: one published row, and the trajectory of mean lengths.

Writes `benchmarks/results/tracerl_update.json`, with the settings and the machine.
"""

import argparse
import ctypes
import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from published_rows import rows, rows_sorted
from rich.console import Console
from rich.table import Table
from setting import RESULTS, describe_machine, write_result
from torch import Tensor
from update_workloads import (
    MEANS,
    Pass,
    Workload,
    chain_sum,
    drawn,
    lognormal_lengths,
    model_spec,
    packed,
    random_model,
)

from unmask.engine.engine import Engine
from unmask.models.matmul import use_matmul
from unmask.models.transformer import Model

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}  # of the whole gradient
BLOCKS = {"block 4": 4, "block 8": 8, "block 16": 16, "block 32": 32, "full": None}

# Shapes of Qwen3, whose layers SDAR has; prompt and response; tokens of a pass.
QWEN3 = {"num_kv_heads": 8, "head_width": 128, "is_tied": True}
SHAPES = {
    "1.7B": (2048, 28, {"num_heads": 16, "ffn_width": 6144}),
    "4B": (2560, 36, {"num_heads": 32, "ffn_width": 9728}),
}
SIZES = {"784 + 2000": (784, 2000, 8192), "1024 + 8192": (1024, 8192, 32768)}
ON_GPU = {f"{shape}, {size}": (shape, size) for shape in SHAPES for size in SIZES}

Layout = Callable[[Workload], Iterator[Pass]]
LAYOUTS: dict[str, Layout] = {"rows": rows, "packed": packed, "rows, sorted": rows_sorted}


# --- measuring ------------------------------------------------------------------------------------


def clock(device: torch.device) -> float:
    """Return CPU seconds of this process, or wall seconds once the GPU is done."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(
    work: Workload, layout: Layout, share: int = 1, turn: int = 0, is_old_pass: bool = False
) -> float:
    """Return the seconds of one update, whose gradient is added to the model's `grad`.

    Args:
        work: the update.
        layout: how it is laid out; the seconds that takes are counted.
        share: run every `share`-th pass only, and scale up by tokens.
        turn: which of them.
        is_old_pass: forward only.
    """
    denominator = float(sum(int(v.target.sum()) for v in work.views))
    spent, tokens, all_tokens = 0.0, 0, 0
    mark = clock(work.model.device)
    for index, step in enumerate(layout(work)):
        all_tokens += step.pack.tokens.shape[0]
        if index % share == turn % share:
            tokens += step.pack.tokens.shape[0]
            run_pass(work, step, denominator, is_old_pass)
            spent += clock(work.model.device) - mark
        mark = clock(work.model.device)
    return spent * all_tokens / tokens


def run_pass(work: Workload, step: Pass, denominator: float, is_old_pass: bool = False) -> None:
    """Run one pass, backward too unless it is for the old log-probabilities."""
    if is_old_pass:
        with torch.no_grad():
            step.score(work.model, step)
        return
    terms = work.objective(step.score(work.model, step), step.pack)
    ((terms.loss * step.pack.weights).sum() / denominator).backward()


def gradient_difference(work: Workload) -> float:
    """Return `|packed - rows| / |rows|` of the whole gradient, Euclidean."""
    found: list[Tensor] = []
    for layout in (packed, rows):
        work.model.zero_grad(set_to_none=True)
        seconds(work, layout)
        parts = [p.grad.flatten() for p in work.model.parameters() if p.grad is not None]
        found.append(torch.cat(parts).float())
    ours, expected = found
    return float((ours - expected).norm() / expected.norm())


class Count(NamedTuple):
    """What an update costs on paper."""

    tokens: int
    scored: int
    tflop: float


def count_work(work: Workload, layout: Layout) -> Count:
    """Count tokens and floating-point operations, forward and backward.

    A matrix product costs two operations per weight and token, three times (forward, and backward
    to input and weight); attention four per pair and channel forward, ten backward, because scores
    are computed again.
    """
    passes = [(p.pack.tokens.shape[0], p.num_scored, p.num_pairs) for p in layout(work)]
    tokens, scored, pairs = (sum(column) for column in zip(*passes, strict=True))
    spec, layers = work.model.spec, work.model.backbone.layers
    weights = sum(p.numel() for p in layers.parameters() if p.dim() == 2)
    head = spec.vocab_size * spec.width
    channels = spec.num_heads * spec.head_width * spec.num_layers
    flop = 6.0 * (tokens * weights + scored * head) + 14.0 * pairs * channels
    return Count(tokens, scored, flop / 1e12)


STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_mib(work: Workload, layout: Layout) -> float | None:
    """Return what the layout's first pass takes beside weights and gradients, with checkpointing.

    `None` where neither a GPU nor Linux says it.
    """
    step = next(layout(work))
    work.model.backbone.gradient_checkpointing = True
    try:
        run_pass(work, step, 1.0)  # so that the gradients are there
        gc.collect()
        before = _memory_mib(work.model.device, is_peak=False)
        run_pass(work, step, 1.0)
        return _memory_mib(work.model.device, is_peak=True) - before
    except OSError:
        return None
    finally:
        work.model.backbone.gradient_checkpointing = False


def _memory_mib(device: torch.device, is_peak: bool) -> float:
    """Return the memory in use, which starts the count of the peak, or that peak."""
    if device.type == "cuda":
        if is_peak:
            return torch.cuda.max_memory_allocated(device) / 2**20
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 2**20
    if not is_peak:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # or freed memory that is still held hides a part
        CLEAR.write_text("5")
    name = "VmHWM" if is_peak else "VmRSS"
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


def sync_seconds(model: Model) -> float:
    """Return the wall seconds of a weight sync to an engine that shares the module, as RL has it."""
    engine = Engine(model)
    began = time.perf_counter()
    engine.update_weights()
    return time.perf_counter() - began


def measure(work: Workload, rounds: int, share: int) -> dict[str, Any]:
    """Run the layouts in turn, and compare gradients and memory once."""
    runs: dict[str, list[float]] = {name: [] for name in LAYOUTS}
    old_pass: list[float] = []
    shortest = min(work.views, key=lambda v: len(v.prompt_ids) + len(v.canvas_ids))
    checked = work if work.mean is None else replace(work, views=[shortest])
    difference = gradient_difference(checked)
    for turn in range(rounds):
        for name, layout in LAYOUTS.items():
            work.model.zero_grad(set_to_none=True)
            runs[name].append(seconds(work, layout, 1 if name == "packed" else share, turn))
        old_pass.append(seconds(work, rows, share, turn, is_old_pass=True))
    found = {
        name: {
            "speed": round(
                median(row / own for row, own in zip(runs["rows"], own_runs, strict=True)), 3
            ),
            "seconds": [round(own, 3) for own in own_runs],
            **count_work(work, LAYOUTS[name])._asdict(),
        }
        for name, own_runs in runs.items()
    }
    pairs = list(zip(runs["rows"], runs["packed"], old_pass, strict=True))
    return {
        "layouts": found,
        "old_pass_seconds": [round(old, 3) for old in old_pass],
        "speed_with_old_pass": round(median((row + old) / own for row, own, old in pairs), 3),
        "gradient_difference": difference,
        "peak_mib": measure_peaks(work),
    }


def measure_peaks(work: Workload) -> dict[str, float | None]:
    """Return the peaks of a published row, and of the trajectory of mean lengths in both layouts."""
    if work.mean is None:
        return {}
    alone = replace(work, views=[work.mean])
    peaks = {
        "rows": peak_mib(work, rows),
        "rows, own length": peak_mib(alone, rows),
        "packed": peak_mib(alone, packed),
    }
    return {name: peak if peak is None else round(peak, 1) for name, peak in peaks.items()}


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
    vocabulary, dtype = 151936, torch.bfloat16
    if arguments.smoke:
        width, layers, changes, vocabulary = 256, 1, {"num_heads": 16, "ffn_width": 512}, 64
        num_prompt, num_response, dtype = num_prompt // 64, num_response // 64, torch.float32
    spec = model_spec(width, layers, vocabulary, 4, **(QWEN3 | changes))
    model = random_model(spec, arguments.seed, arguments.device, dtype)
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
    table.add_row("old pass", "", f"{median(found['old_pass_seconds']):.2f}", "", "", "", "")
    Console(width=max(Console().width, 110)).print(table)
    print_line(
        f"gradient differs by {found['gradient_difference']:.0e}; with the old pass "
        f"{found['speed_with_old_pass']:.2f}x; packed against sorted rows "
        f"{layouts['packed']['speed'] / layouts['rows, sorted']['speed']:.2f}x"
        + (f"; peak {peaks['packed'] / peaks['rows']:.0%} of a row's" if peaks.get("rows") else "")
    )


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
    parser.add_argument("--rounds", type=int, default=3, help="of block 4; chain_sum takes 15")
    parser.add_argument("--other-rounds", type=int, default=1, help="of the other workloads")
    parser.add_argument("--share", type=int, default=4, help="of the passes of rows that are run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--matmul", choices=("default", "onednn"), default="default")
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
    parser.add_argument("--out", type=Path, default=RESULTS / "tracerl_update.json")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and arguments.out == parser.get_default("out"):
        arguments.out = RESULTS / "tracerl_update-cuda.json"
    if arguments.smoke:
        arguments.rounds, arguments.sft_steps, arguments.prompts = 1, 2, 4
        arguments.trajectories, arguments.means = 2, (15, 50)
        arguments.width, arguments.layers, arguments.vocabulary = 64, 1, 64
        if arguments.out == parser.get_default("out"):
            arguments.out = None
    if arguments.workloads is None:
        arguments.workloads = names[:-4] if arguments.device == "cpu" else [*ON_GPU]
    arguments.task_size = ["task.size=400"] if arguments.smoke else []
    return arguments


def main() -> None:
    """Measure every workload, print the tables, write the JSON, and fail if gradients differ."""
    arguments = read_arguments()
    torch.set_num_threads(1)
    use_matmul(arguments.matmul)
    settings = {key: value for key, value in vars(arguments).items() if key != "out"}
    result: dict[str, Any] = {"settings": settings, "machine": describe_machine(), "workloads": {}}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        for name in arguments.workloads:
            work = build_workload(name, arguments, Path(place))
            rounds = {"chain_sum": 15, "block 4": arguments.rounds}.get(
                name, arguments.other_rounds
            )
            found = measure(work, rounds, 1 if name == "chain_sum" else arguments.share)
            found["sync_seconds"] = sync_seconds(work.model)
            size = describe(work)
            show(name, size, found)
            print_line(f"weight sync to the engine: {found['sync_seconds'] * 1000:.2f} ms")
            result["workloads"][name] = {"size": size, **found}
            if not found["gradient_difference"] <= TOLERANCE[work.model.dtype]:
                wrong.append(f"{name}: {found['gradient_difference']:.1e}")
            del work
    write_result(arguments.out, result)
    if wrong:
        raise SystemExit(f"gradients differ, the layouts are not the same: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
