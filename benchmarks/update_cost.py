"""The cost of an update in a layout: seconds, tokens, operations, peak memory; and its gradient."""

import gc
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import NamedTuple

import torch
from published_rows import rows, rows_sorted
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from update_workloads import Pass, Workload, packed

Layout = Callable[[Workload], Iterator[Pass]]


class Run(NamedTuple):
    """What is timed: a layout; forward only, if it is the pass for the old log-probabilities."""

    layout: Layout
    is_old_pass: bool = False


RUNS = {
    "rows": Run(rows),
    "packed": Run(packed),
    "rows, sorted": Run(rows_sorted),
    "old pass": Run(rows, is_old_pass=True),
}


def clock(device: torch.device) -> float:
    """Return CPU seconds of this process, or elapsed seconds once the GPU is done."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(work: Workload, run: Run, share: int = 1, turn: int = 0) -> float:
    """Return the seconds of one update, whose gradient is added to the model's `grad`.

    Args:
        work: the update.
        run: how it is laid out; the seconds that takes are counted.
        share: run every `share`-th pass only, and scale up by tokens.
        turn: which of them.
    """
    denominator = float(sum(int(v.target.sum()) for v in work.views))
    spent, tokens, all_tokens = 0.0, 0, 0
    mark = clock(work.model.device)
    for index, step in enumerate(run.layout(work)):
        all_tokens += step.pack.tokens.shape[0]
        if index % share == turn % share:
            tokens += step.pack.tokens.shape[0]
            run_pass(work, step, denominator, run.is_old_pass)
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
    ours, expected = (_gradient(work, RUNS[name]) for name in ("packed", "rows"))
    pairs = list(zip(ours, expected, strict=True))
    # Parameter by parameter: a joined copy in fp32 would take twice the memory of the weights.
    difference = sum(float((own.float() - other.float()).square().sum()) for own, other in pairs)
    norm = sum(float(other.float().square().sum()) for _, other in pairs)
    return (difference / norm) ** 0.5


def _gradient(work: Workload, run: Run) -> list[Tensor]:
    work.model.zero_grad(set_to_none=True)
    seconds(work, run)
    found = [p.grad for p in work.model.parameters() if p.grad is not None]
    work.model.zero_grad(set_to_none=True)
    return found


class Count(NamedTuple):
    """The cost of an update by counting."""

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
    return Count(tokens, scored, round(flop / 1e12, 5))


def peak_mib(work: Workload, layout: Layout) -> float:
    """Return the peak of live tensors in a layout's first pass, without weights and gradients, in MiB."""
    step = next(layout(work))
    backbone = work.model.backbone
    was_on, backbone.gradient_checkpointing = backbone.gradient_checkpointing, True
    try:
        run_pass(work, step, 1.0)  # so that the gradients are there
        gc.collect()
        measured = _peak_bytes_cuda if work.model.device.type == "cuda" else _peak_bytes_cpu
        return measured(lambda: run_pass(work, step, 1.0)) / 2**20
    finally:
        backbone.gradient_checkpointing = was_on


def _peak_bytes_cuda(run: Callable[[], None]) -> int:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - before


def _peak_bytes_cpu(run: Callable[[], None]) -> int:
    """Add up what the allocator gave and took back, in order: resident memory would also count what it keeps."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    results = profiler.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in events), initial=0))
