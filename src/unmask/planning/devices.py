"""Devices: limits of data sheets, assumed efficiencies, and this machine's CPU, measured.

Data sheets of NVIDIA: H100 SXM, H200 SXM, A100 SXM 80 GB, B200 (of a DGX B200): dense bf16 operations, memory,
its bandwidth, NVLink in one direction, and the network of a node of eight, per device: 400 Gbit/s (H100,
H200, B200: ConnectX-7) or 200 Gbit/s (A100: ConnectX-6).

No run reaches these limits. The shares that are reached are *assumed* (`Efficiency`): 0.4 of the peak in training
and 0.7 of the bandwidth are usual for well-tuned programs, and no GPU has confirmed them for this one. Where
`tools/gpu_check` has measured copies and products of a card (`benchmarks/results/gpu/gpu_check.json`), its figures
replace peak and bandwidth, and the shares then apply to them.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unmask.engine.options import ROW_BUDGETS
from unmask.json_files import read_object

GIB = 2**30
MEASURED = Path("benchmarks/results/gpu/gpu_check.json")


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Assumed shares of a device's limits.

    Attributes:
        training: of the peak, in packs.
        experts: of the peak, in packs of a model with experts.
        engine: of the peak, in passes of the engine.
        bandwidth: of the memory's.
        link: of links between devices.
    """

    training: float = 0.4
    experts: float = 0.25
    engine: float = 0.4
    bandwidth: float = 0.7
    link: float = 0.7


@dataclass(frozen=True, slots=True)
class Device:
    """A device and what connects it with others.

    Attributes:
        name: as `--device` takes it.
        source: where the limits come from.
        memory: bytes.
        reserve: bytes that no tensor gets: the CUDA context, NCCL, and what the allocator splits.
        flops: operations per second in the number format of `width`.
        bandwidth: bytes of memory per second.
        link: bytes per second to another device of the node, in one direction.
        network: bytes per second of a device's own share of the node's network.
        per_node: devices of a node.
        host: bytes per second to and from host memory.
        tick_s: seconds of a pass of the engine that are neither products nor memory.
        width: bytes of a number under `model.dtype = "auto"`.
        row_budget: of the engine, when not given.
        efficiency: assumed shares of these limits.
    """

    name: str
    source: str
    memory: int
    reserve: int
    flops: float
    bandwidth: float
    link: float
    network: float
    per_node: int = 8
    host: float = 25e9
    tick_s: float = 1e-3
    width: int = 2
    row_budget: int = ROW_BUDGETS["cuda"]
    efficiency: Efficiency = Efficiency()

    @property
    def is_cpu(self) -> bool:
        """Whether it is this machine's processor."""
        return self.name == "cpu"

    @property
    def usable(self) -> int:
        """Bytes for tensors."""
        return self.memory - self.reserve


def _card(
    name: str, gib: int, teraflops: float, terabytes: float, link: float, network: float
) -> Device:
    return Device(
        name,
        "data sheet",
        memory=gib * GIB,
        reserve=GIB + gib * GIB // 20,
        flops=teraflops * 1e12,
        bandwidth=terabytes * 1e12,
        link=link * 1e9,
        network=network * 1e9,
    )


CARDS = (
    _card("h100", 80, 989, 3.35, link=450, network=50),
    _card("h200", 141, 989, 4.8, link=450, network=50),
    _card("a100", 80, 312, 2.039, link=300, network=25),
    _card("b200", 180, 2250, 8.0, link=900, network=50),
)
NAMES = (*(card.name for card in CARDS), "cpu")


def device_named(name: str, threads: int = 1, measured: Path = MEASURED) -> Device:
    """Return a device by name.

    Args:
        name: one of `NAMES`.
        threads: of torch, for `cpu`.
        measured: results of `tools/gpu_check`, used if the file exists and is of that card.

    Raises:
        ValueError: naming the devices there are.
    """
    if name == "cpu":
        return calibrated_cpu(threads)
    card = next((card for card in CARDS if card.name == name), None)
    if card is None:
        raise ValueError(f"--device {name}: must be one of {', '.join(NAMES)}")
    parts = read_object(measured) if measured.is_file() else {}
    reached = parts.get("ceilings", {}).get("figures", {}).get("reached", {})
    if name not in reached.get("name", "").lower():
        return card
    return replace(
        card,
        flops=reached["flops"],
        bandwidth=reached["bandwidth"],
        source=f"copies and products measured, {measured}; the rest is of the data sheet",
    )


def calibrated_cpu(threads: int) -> Device:
    """Measure this machine: a product of 1024 x 1024 matrices in fp32 and a copy of 128 MiB, in about a second.

    Seconds are CPU seconds of a thread, which other processes change little. Links between processes of one machine
    are assumed to have a quarter of the copy's bandwidth.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    a, b = torch.randn(2, 1024, 1024)
    source = torch.ones(2**25)
    target = torch.empty_like(source)
    product_s = _fastest(lambda: torch.mm(a, b)) / threads
    copy_s = _fastest(lambda: target.copy_(source)) / threads
    torch.set_num_threads(before)
    bandwidth = 2 * source.nbytes / copy_s
    return Device(
        "cpu",
        f"a product and a copy measured here, {threads} thread(s)",
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        reserve=GIB // 2,  # interpreter and libraries
        flops=2 * 1024**3 / product_s,
        bandwidth=bandwidth,
        link=bandwidth / 4,
        network=bandwidth / 4,
        host=bandwidth,
        width=4,
        row_budget=ROW_BUDGETS["cpu"],
        efficiency=Efficiency(training=0.8, experts=0.5, engine=0.8, bandwidth=0.8, link=1.0),
    )


def _fastest(run: Callable[[], object]) -> float:
    """Return the fewest CPU seconds of ten runs."""
    seconds: list[float] = []
    for _ in range(10):
        began = time.process_time()
        run()
        seconds.append(time.process_time() - began)
    return min(seconds)
