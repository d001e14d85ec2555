"""Measuring on a device: clocks, medians, ceilings, the roofline of a forward pass, kernel times by name.

Seconds are elapsed ones of a synchronised device. A fraction is given of two ceilings: the peak of the card's data
sheet (`CARDS`), which is `None` for an unknown card, and what copies and matrix products reach here.
"""

import gc
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from unmask.models.spec import ModelSpec
from unmask.models.transformer import Model


@dataclass(frozen=True, slots=True)
class Card:
    """The limits of a device.

    Attributes:
        name: of the device.
        flops: dense bf16 operations per second.
        bandwidth: bytes of memory per second.
    """

    name: str
    flops: float
    bandwidth: float


# Dense bf16 and memory of the data sheets; the first name that is part of the device's.
CARDS = (
    Card("H200", 989e12, 4.8e12),
    Card("H100", 989e12, 3.35e12),
    Card("A100", 312e12, 2.039e12),
    Card("B200", 2250e12, 8.0e12),
)


# Of one compiled function, in all parts of a process.
MOST_SHAPES = 64


def card_of(device_name: str) -> Card | None:
    """Return the data sheet's limits of a device, `None` if it is not in `CARDS`."""
    return next((card for card in CARDS if card.name in device_name), None)


def device_name(device: torch.device) -> str:
    """Return the name of a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def synchronize(device: torch.device) -> None:
    """Wait until a device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Return the elapsed seconds of `run`, the device idle before and after."""
    synchronize(device)
    began = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - began


def median_seconds(run: Callable[[], object], device: torch.device, count: int = 5) -> float:
    """Return the median elapsed seconds of `count` runs, after one that is not counted."""
    run()
    return median(seconds(run, device) for _ in range(count))


def prepare(device: torch.device) -> None:
    """Free the memory of the part before; kernels that it compiled serve again."""
    gc.collect()
    if device.type == "cuda":
        # By default the ninth shape of one compiled function is an error.
        torch._dynamo.config.recompile_limit = MOST_SHAPES
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


# --- memory ---------------------------------------------------------------------------------------


def memory_meter(device: torch.device) -> Callable[[Callable[[], object]], int | None]:
    """Return a function of a run to its peak of allocated bytes, everything that was there included.

    On CPU it runs and returns `None`: the allocator keeps no count.
    """
    if device.type != "cuda":
        return _run_only

    def peak(run: Callable[[], object]) -> int:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)

    return peak


def _run_only(run: Callable[[], object]) -> None:
    run()


# --- ceilings -------------------------------------------------------------------------------------


def measure_ceilings(device: torch.device, is_tiny: bool) -> Card:
    """Return what the device reaches: a copy of 2 GiB, read and written, and a bf16 product of 8192^3.

    The factors are random: a product of zeros draws less power and runs at a higher clock.
    """
    size, count = (256, 2**20) if is_tiny else (8192, 2**31)
    a, b = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    source = torch.empty(count, device=device, dtype=torch.uint8).random_(0, 256)
    target = torch.empty_like(source)
    product_s = median_seconds(lambda: torch.mm(a, b), device, 10)
    copy_s = median_seconds(lambda: target.copy_(source), device, 10)
    return Card(device_name(device), 2 * size**3 / product_s, 2 * count / copy_s)


# --- roofline -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """One forward pass of the engine.

    Attributes:
        sequences: `N`, which run.
        context: `c`, tokens that each of them has.
        rows: `R`, fed.
        scored: rows the head is run on; as many as are fed where not given.
    """

    sequences: int
    context: float
    rows: float
    scored: float | None = None


@dataclass(frozen=True, slots=True)
class Bound:
    """The least seconds of a forward pass: of reading weights and cache, and of computing; the greater one holds."""

    bytes_s: float
    flop_s: float

    @property
    def seconds(self) -> float:
        """Least seconds of the pass."""
        return max(self.bytes_s, self.flop_s)

    @property
    def limit(self) -> str:
        """Which of the two holds: `memory` or `compute`."""
        return "memory" if self.bytes_s >= self.flop_s else "compute"


@dataclass(frozen=True, slots=True)
class ModelCost:
    """The numbers of a dense model that a roofline depends on.

    Attributes:
        body: weights of the layers.
        head: weights of the head.
        cache_bytes: keys and values of one token in all layers, at two bytes a number.
        channels: layers times query heads times their width.
    """

    body: int
    head: int
    cache_bytes: int
    channels: int

    @classmethod
    def of(cls, spec: ModelSpec) -> "ModelCost":
        """Return the cost of a spec."""
        assert spec.moe is None
        heads, kv_heads = spec.num_heads * spec.head_width, spec.num_kv_heads * spec.head_width
        attention = spec.width * (2 * heads + 2 * kv_heads)
        return cls(
            body=spec.num_layers * (attention + 3 * spec.width * spec.ffn_width),
            head=spec.vocab_size * spec.width,
            cache_bytes=spec.num_layers * 2 * kv_heads * 2,
            channels=spec.num_layers * heads,
        )


def roofline(cost: ModelCost, load: Load, card: Card) -> Bound:
    """Return the least time of a forward pass in bf16.

        bytes = 2 (body + head) + N c cache_bytes
        flops = 2 (R body + S head) + 4 R c channels

    Args:
        cost: of the model.
        load: what the pass feeds.
        card: peak or measured limits.
    """
    scored = load.rows if load.scored is None else load.scored
    read = 2 * (cost.body + cost.head) + load.sequences * load.context * cost.cache_bytes
    flops = 2 * (load.rows * cost.body + scored * cost.head)
    flops += 4 * load.rows * load.context * cost.channels
    return Bound(read / card.bandwidth, flops / card.flops)


def training_flops(cost: ModelCost, tokens: int, pairs: int) -> float:
    """Return the operations of a forward and backward pass, none of them counted twice.

    `6 parameters tokens + 12 pairs channels`: matrix products cost two operations per weight and token, and
    attention four per visible pair and channel, three times each (forward, and backward to input and
    weight). What gradient checkpointing computes again is not counted.
    """
    return 6.0 * (cost.body + cost.head) * tokens + 12.0 * pairs * cost.channels


# --- kernels --------------------------------------------------------------------------------------

# Names of kernels (and of operators, on CPU), in order: the first group whose pattern is found has it.
GROUPS = {
    "attention": r"attend_tile|combine_chunks|write_row|flash|fmha|scaled_dot_product|bmm",
    "matmul": r"gemm|gemv|nvjet|cutlass|cublas|splitk|aten::(mm|addmm|linear|matmul)",
    "sampling": r"softmax|scan|cumsum|arg_?max|searchsorted|sort|gather|reduce",
}


def group_of(name: str) -> str:
    """Return the group of a kernel's name, `other` for none: elementwise kernels, norms and copies."""
    return next(
        (group for group, pattern in GROUPS.items() if re.search(pattern, name, re.IGNORECASE)),
        "other",
    )


def kernel_times(run: Callable[[], object], device: torch.device) -> tuple[dict[str, float], int]:
    """Return the seconds of the kernels of `run` by group, and how many there were.

    On CPU these are operators, each without those it calls.
    """
    is_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CUDA] if is_cuda else [ProfilerActivity.CPU]
    with profile(activities=activities) as profiler:
        run()
        synchronize(device)
    named = (_device_events if is_cuda else _operators)(profiler)
    totals = dict.fromkeys((*GROUPS, "other"), 0.0)
    for name, spent in named:
        totals[group_of(name)] += spent
    return totals, len(named)


def _device_events(profiler: Any) -> list[tuple[str, float]]:
    events = profiler.profiler.kineto_results.events()
    return [(e.name(), e.duration_ns() / 1e9) for e in events if e.device_type() == DeviceType.CUDA]


def _operators(profiler: Any) -> list[tuple[str, float]]:
    return [(e.name, e.self_cpu_time_total / 1e6) for e in profiler.events()]


def rounded(figures: Any, digits: int = 6) -> Any:
    """Return nested figures with their floats rounded to significant digits, records as dictionaries."""
    if isinstance(figures, Card | Load | Bound):
        figures = asdict(figures)
    if isinstance(figures, dict):
        return {str(key): rounded(value, digits) for key, value in figures.items()}
    if isinstance(figures, Sequence) and not isinstance(figures, str):
        return [rounded(value, digits) for value in figures]
    if isinstance(figures, Tensor):
        return rounded(figures.tolist(), digits)
    return float(f"{figures:.{digits}g}") if isinstance(figures, float) else figures


def parameters(model: Model) -> int:
    """Return the number of parameters, a tied one once."""
    return sum(parameter.numel() for parameter in model.parameters())
