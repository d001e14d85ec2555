"""The paged attention kernel against the plain twin, against torch's attention, and against the memory.

    python benchmarks/paged_attention.py

One layer of SDAR-4B (32 query heads over 8 KV heads of 128, bf16), 128 sequences of 1024 keys each,
that feed 4 rows (a block) or 8 (a block and the commit of the one before), and contexts spread from
an eighth to all of it, where the longest program would determine the time. Compared:

- `walked` and `split`: the kernel with chunks in sequence, and in parallel; `kernel` is its own choice;
- `gathered`: the pages' keys copied into one tensor, then `F.scaled_dot_product_attention` under a mask
  (the copy is counted: without a paged kernel it has to be made in every layer of every tick);
- `plain`: the twin that the kernel is tested against.

GB/s counts the keys and values below the limits, once. The machine's bandwidth is measured too:
bytes read and written by copying 1 GiB. `share` is their quotient: 0.6 to 0.75 is what a good engine
reaches. A result that differs from the twin's by more than bf16 allows fails the run.

Needs a CUDA device; without one it prints an error and exits with code 2.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from setting import RESULTS, describe_machine, write_result
from torch import Tensor

from unmask.engine.kernels.paged_attention import (
    Tiles,
    attend_plain,
    attend_tiles,
    choose_rows_per_tile,
    has_kernel,
    most_tiles,
    plan_tiles,
)

HEADS, KV_HEADS, WIDTH, PAGE = 32, 8, 128, 64
CANNOT_RUN = 2
# Twice the distance of neighbouring bf16 numbers at 1, where the largest mixtures lie.
TOLERANCE = 2**-6


@dataclass(frozen=True, slots=True)
class Work:
    """One tick's attention in one layer."""

    q: Tensor
    keys: Tensor
    values: Tensor
    table: Tensor
    sequence: Tensor
    limit: Tensor
    tiles: Tiles

    @property
    def num_bytes(self) -> int:
        """Bytes of the keys and values that some row attends to."""
        seen = torch.zeros(len(self.table), dtype=torch.long, device=self.q.device)
        seen.scatter_reduce_(0, self.sequence, self.limit.long(), "amax")
        return int(seen.sum()) * 2 * KV_HEADS * WIDTH * self.keys.element_size()


def main() -> None:
    """Measure every workload; exit code 1 if the kernel is wrong, 2 if there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--context", type=int, default=1024, help="keys of a sequence")
    parser.add_argument("--smoke", action="store_true", help="few sequences, nothing is written")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    arguments = parser.parse_args()
    if not torch.cuda.is_available() or not has_kernel(torch.device("cuda")):
        print("paged_attention needs a CUDA device and triton; none is here", file=sys.stderr)
        sys.exit(CANNOT_RUN)
    torch.manual_seed(0)
    num_sequences = 4 if arguments.smoke else arguments.sequences
    bandwidth = _bandwidth()
    report: dict[str, Any] = {
        "machine": {**describe_machine(), "gpu": torch.cuda.get_device_name()},
        "bandwidth_gb_s": round(bandwidth / 1e9),
        "sequences": num_sequences,
        "context": arguments.context,
        "workloads": {},
    }
    print(f"{torch.cuda.get_device_name()}: {bandwidth / 1e9:.0f} GB/s copying")
    print("| workload | attention | us | GB/s | share | error |\n|---|---|---|---|---|---|")
    for name, num_rows, is_ragged in (
        ("4 rows", 4, False),
        ("8 rows", 8, False),
        ("8 rows, ragged", 8, True),
    ):
        work = _make_work(num_sequences, num_rows, arguments.context, is_ragged)
        results = report["workloads"][name] = _compare(work, bandwidth)
        for way, row in results.items():
            print(f"| {name} | {way} | {' | '.join(map(str, row.values()))} |", flush=True)
    errors = [row["error"] for results in report["workloads"].values() for row in results.values()]
    report["holds"] = max(errors) <= TOLERANCE
    default = None if arguments.smoke else RESULTS / "paged_attention.json"
    write_result(arguments.out or default, report)
    sys.exit(0 if report["holds"] else 1)


def _make_work(num_sequences: int, num_rows: int, context: int, is_ragged: bool) -> Work:
    device = torch.device("cuda")
    num_pages = -(-context // PAGE)
    total = num_sequences * num_pages
    q = torch.randn(num_sequences * num_rows, HEADS, WIDTH, device=device, dtype=torch.bfloat16)
    pages = (2, total + 1, KV_HEADS, PAGE, WIDTH)
    keys, values = torch.randn(pages, device=device, dtype=torch.bfloat16)
    table = (torch.randperm(total, device=device) + 1).view(num_sequences, num_pages).int()
    sequence = torch.arange(num_sequences, device=device).repeat_interleave(num_rows)
    shares = torch.linspace(0.125, 1, num_sequences, device=device)
    lengths = (context * shares).long() if is_ragged else torch.full_like(sequence, context)
    # Two blocks of a fused commit differ by one block in what they see.
    nth = torch.arange(len(sequence), device=device) % num_rows
    limit = lengths[sequence] - (nth < num_rows - 4).long() * 4
    counts = torch.full((num_sequences,), num_rows, device=device)
    per_tile = choose_rows_per_tile(num_rows, HEADS // KV_HEADS)
    num_tiles = most_tiles(len(q), num_sequences, per_tile)
    tiles = plan_tiles(counts.cumsum(0) - counts, counts, per_tile, num_tiles)
    return Work(q, keys, values, table, sequence, limit.int(), tiles)


def _compare(work: Work, bandwidth: float) -> dict[str, dict[str, float]]:
    paged = (work.q, work.keys, work.values, work.table, work.limit, work.tiles)
    ways: dict[str, Callable[[], Tensor]] = {
        "kernel": lambda: attend_tiles(*paged),
        "walked": lambda: attend_tiles(*paged, is_split=False),
        "split": lambda: attend_tiles(*paged, is_split=True),
        "gathered": lambda: _gathered(work),
        "plain": lambda: attend_plain(*paged[:4], work.sequence, work.limit),
    }
    expected = ways["plain"]().float()
    results: dict[str, dict[str, float]] = {}
    for name, run in ways.items():
        error = float((run().float() - expected).abs().max())
        seconds = _seconds(run, is_captured=name != "plain")
        speed = work.num_bytes / seconds
        results[name] = {
            "us": round(seconds * 1e6, 1),
            "gb_s": round(speed / 1e9),
            "share": round(speed / bandwidth, 3),
            "error": round(error, 5),
        }
    return results


def _gathered(work: Work) -> Tensor:
    """Copy every sequence's pages, then attend to them all at once."""
    num_sequences = len(work.table)
    table = work.table.flatten()
    k, v = (
        pool.index_select(0, table)
        .unflatten(0, (num_sequences, -1))
        .transpose(1, 2)
        .flatten(2, 3)  # (n, Hk, L, E)
        for pool in (work.keys, work.values)
    )
    q = work.q.unflatten(0, (num_sequences, -1)).transpose(1, 2)
    position = torch.arange(k.shape[2], device=k.device)
    is_seen = position < work.limit.view(num_sequences, 1, -1, 1)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=is_seen, enable_gqa=True)
    return mixed.transpose(1, 2).flatten(0, 1)


def _seconds(run: Callable[[], Tensor], is_captured: bool = True, repeats: int = 50) -> float:
    """Return the median seconds of one call, replayed from a CUDA graph as the engine would."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    if is_captured:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        call: Callable[[], Any] = graph.replay
    else:
        call, repeats = run, 3
    taken = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end) / 1e3)
    return statistics.median(taken)


def _bandwidth() -> float:
    """Return bytes a second of copying 1 GiB, read and written."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / _seconds(lambda: target.copy_(source))


if __name__ == "__main__":
    main()
