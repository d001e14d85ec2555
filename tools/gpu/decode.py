"""The engine's decoding in its steady state, against the roofline of its passes.

Random weights of a published shape write under the `static` strategy, so that the number of tokens per pass
is known: one, or two, of a block of four. Each cell runs three times in one engine:

    prompts     written for a block: fills the prefix cache, and is not measured
    warm        the measured run, once before: captures every CUDA graph that it replays
    measured    ticks in which all sequences denoise

and a fourth time, shortened, under the profiler. Prompts have different lengths: blocks and pages of the
sequences end at different ticks, as in a server. The mean context of the measured ticks is about 1,024.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import mean, median
from typing import Any

import torch
from shapes import BLOCK, drawn_model, sdar_spec
from torch import Tensor

from tools.gpu.measure import (
    Card,
    Load,
    ModelCost,
    card_of,
    device_name,
    kernel_times,
    measure_ceilings,
    median_seconds,
    prepare,
    roofline,
    rounded,
    synchronize,
)
from tools.gpu.part import Outcome, Setting
from unmask.diffusion.sampling_tensors import SamplingTensors
from unmask.diffusion.token_sampling import propose
from unmask.engine.engine import Engine
from unmask.engine.events import Finished
from unmask.engine.host_state import Report
from unmask.engine.options import EngineParams
from unmask.models.transformer import Model
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Trajectory

SEQUENCES, TINY_SEQUENCES = (1, 16, 128), (2,)
# Shortest prompt, over how many lengths prompts are spread, and tokens written.
LENGTHS, TINY_LENGTHS = (928, 64, 128), (24, 8, 36)
# Ticks that are left out: in the first ones prompts are fed, and the host reads one tick late.
SETTLING = 8
PROFILED = 4
# The bar of issue 15: tokens per second at 128 sequences, or the share of the roofline.
RATE, SHARE = 16_000, 0.6


@dataclass(slots=True)
class Served:
    """One run.

    Attributes:
        trajectories: finished responses.
        tick_s: seconds of each tick.
        wait_s: of them, those in which the host waited for the device's report.
        ends: the first tick with a finished response.
        profiled: seconds of kernels by group, and their number, of `PROFILED` ticks; if asked for.
    """

    trajectories: list[Trajectory] = field(default_factory=list)
    tick_s: list[float] = field(default_factory=list)
    wait_s: list[float] = field(default_factory=list)
    ends: int = 0
    profiled: tuple[dict[str, float], int] | None = None


def make_prompts(count: int, shortest: int, spread: int, vocabulary: int) -> list[Prompt]:
    """Draw prompts whose lengths are spread evenly over `spread` values from `shortest` on."""
    generator = torch.Generator().manual_seed(0)
    lengths = [shortest + 13 * i % spread for i in range(count)]  # 13: blocks, too, end differently
    draws = (torch.randint(2, vocabulary, (n,), generator=generator).tolist() for n in lengths)
    return [Prompt("speed", i, (), tuple(ids)) for i, ids in enumerate(draws)]


def sampling_of(per_pass: int, max_tokens: int, temperature: float = 1.0) -> SamplingParams:
    """Return parameters that reveal `per_pass` tokens in every pass of a whole block."""
    return SamplingParams(
        strategy="static",
        denoising_steps=BLOCK // per_pass,
        schedule="block",
        temperature=temperature,
        stop_token_ids=(),
        max_tokens=max_tokens,
    )


def serve(
    engine: Engine, prompts: Sequence[Prompt], sampling: SamplingParams, is_profiled: bool = False
) -> Served:
    """Write a response to every prompt, all at the same time; the seed of each is its place."""
    found = Served()
    for seed, prompt in enumerate(prompts):
        engine.submit(prompt, replace(sampling, seed=seed))
    host = engine._host
    receive = host.receive

    def timed(report: Report) -> None:
        began = time.perf_counter()
        receive(report)
        found.wait_s[-1] += time.perf_counter() - began

    def tick() -> None:
        found.wait_s.append(0.0)
        began = time.perf_counter()
        events = engine.tick()
        found.tick_s.append(time.perf_counter() - began)
        results = [event.result for event in events if isinstance(event, Finished)]
        if results and not found.trajectories:
            found.ends = len(found.tick_s) - 1
        for result in results:
            if isinstance(result, ValueError):
                raise result
            found.trajectories.append(result)

    host.receive = timed  # type: ignore[method-assign]
    try:
        while not engine.is_idle:
            if is_profiled and len(found.tick_s) == SETTLING:
                synchronize(engine.model.device)
                ticks = lambda: [tick() for _ in range(PROFILED)]  # noqa: E731
                found.profiled = kernel_times(ticks, engine.model.device)
            else:
                tick()
    finally:
        host.receive = receive  # type: ignore[method-assign]
    return found


def measure_cell(
    engine: Engine, prompts: Sequence[Prompt], per_pass: int, written: int, cards: dict[str, Card]
) -> dict[str, Any]:
    """Return the figures of one number of sequences and of tokens per pass."""
    sampling = sampling_of(per_pass, written)
    serve(engine, prompts, sampling_of(per_pass, BLOCK))
    serve(engine, prompts, sampling)
    served = serve(engine, prompts, sampling)
    profiled = serve(engine, prompts, sampling_of(per_pass, per_pass * 4 * SETTLING), True).profiled
    assert profiled is not None
    window = slice(SETTLING, served.ends - 1)
    ticks, waits = served.tick_s[window], served.wait_s[window]
    count, tick_s = len(prompts), mean(ticks)
    # Of a block's passes the first also feeds the block before; position k of a block is scored k times.
    passes = BLOCK // per_pass
    load = Load(
        sequences=count,
        context=mean(len(prompt.token_ids) for prompt in prompts) + written / 2,
        rows=count * (BLOCK + BLOCK / passes),
        scored=count * (BLOCK + per_pass) / 2,
    )
    cost = ModelCost.of(engine.model.spec)
    bounds = {name: roofline(cost, load, card) for name, card in cards.items()}
    groups, kernels = profiled
    # A container may forbid the profiler: the rate stands without it.
    busy_s = sum(groups.values()) / PROFILED or None
    responses = served.trajectories
    return {
        "sequences": count,
        "tokens_per_pass": per_pass,
        "tokens_per_forward": sum(t.num_response for t in responses)
        / sum(t.num_forwards for t in responses),
        "tokens_per_s": count * per_pass / tick_s,
        "ms_per_forward": 1e3 * tick_s,
        "median_ms_per_forward": 1e3 * median(ticks),
        "ticks": len(ticks),
        "host_ms": 1e3 * (tick_s - mean(waits)),
        "waiting_ms": 1e3 * mean(waits),
        "kernel_ms": busy_s and 1e3 * busy_s,
        "gap_share": busy_s and 1 - busy_s / tick_s,
        "kernels_per_tick": kernels / PROFILED,
        "share_of_kernels": busy_s and {n: s / PROFILED / busy_s for n, s in groups.items()},
        "load": load,
        "bounds": {
            name: {"ms": 1e3 * bound.seconds, "limit": bound.limit, "share": bound.seconds / tick_s}
            for name, bound in bounds.items()
        },
    }


def sampling_inputs(
    engine: Engine, sampling: SamplingParams, rows: int
) -> tuple[Tensor, tuple[Any, ...]]:
    """Return random hidden states of `rows` rows, and what `propose` takes for their logits."""
    model = engine.model
    device, width = model.device, model.spec.width
    resolved = engine.resolve(Prompt("speed", 0, (), (2,) * BLOCK), sampling)
    tensors = SamplingTensors.of([resolved] * rows, device)
    held = torch.zeros(rows, dtype=torch.int64, device=device)
    uniforms = torch.rand(rows, dtype=torch.float64, device=device)
    hidden = torch.randn(rows, width, device=device, dtype=model.dtype)
    logits = model.head(hidden, None)
    assert isinstance(logits, Tensor)
    return hidden, (logits, model.head.drawable, uniforms, held, tensors)


@torch.inference_mode()
def measure_sampling(engine: Engine, sampling: SamplingParams, rows: int) -> dict[str, Any]:
    """Return the milliseconds of the head, and of the sampling statistics of its logits, for `rows` rows.

    Apart from the engine's tick: kernels of the layers have the same names.
    """
    head, device = engine.model.head, engine.model.device
    hidden, arguments = sampling_inputs(engine, sampling, rows)
    return {
        "rows": rows,
        "logits_bytes": arguments[0].numel() * arguments[0].element_size(),
        "head_ms": 1e3 * median_seconds(lambda: head(hidden, None), device),
        "sampling_ms": 1e3 * median_seconds(lambda: propose(*arguments), device),
    }


def measure_shape(setting: Setting, shape: str) -> dict[str, Any]:
    """Return the figures of every cell of a shape."""
    device, is_tiny = setting.device, setting.is_tiny
    prepare(device)
    cards = {"measured": measure_ceilings(device, is_tiny)}
    if card := card_of(device_name(device)):
        cards["peak"] = card
    dtype = torch.float32 if is_tiny else torch.bfloat16
    model = drawn_model(sdar_spec(shape, is_tiny), device, dtype).requires_grad_(False)
    shortest, spread, written = TINY_LENGTHS if is_tiny else LENGTHS
    counts = TINY_SEQUENCES if is_tiny else SEQUENCES
    prompts = make_prompts(max(counts), shortest, spread, model.spec.vocab_size)
    engine = Engine(model, EngineParams(max_sequences=max(counts)))
    cells = [
        measure_cell(engine, prompts[:count], per_pass, written, cards)
        for count in counts
        for per_pass in (1, 2)
    ]
    sampling = measure_sampling(engine, sampling_of(1, written), max(counts) * BLOCK)
    return {
        "settings": _settings(model, shape, written),
        "ceilings": cards,
        "cells": cells,
        "sampling": sampling,
    }


def _settings(model: Model, shape: str, written: int) -> dict[str, Any]:
    return {
        "shape": shape,
        "parameters": sum(p.numel() for p in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "block": BLOCK,
        "strategy": "static",
        "temperature": 1.0,
        "written": written,
    }


def outcome_of(setting: Setting, shape: str) -> Outcome:
    """Measure a shape; it passes with the rate or the share of the roofline of the bar, one token per pass."""
    figures = measure_shape(setting, shape)
    best = "peak" if "peak" in figures["ceilings"] else "measured"
    most = max(cell["sequences"] for cell in figures["cells"])
    shown: list[str] = []
    passed = False
    for cell in figures["cells"]:
        share = cell["bounds"][best]["share"]
        if cell["sequences"] == most and cell["tokens_per_pass"] == 1:
            passed = cell["tokens_per_s"] >= RATE or share >= SHARE
        shown.append(
            f"N={cell['sequences']} x{cell['tokens_per_pass']}: {cell['tokens_per_s']:,.0f} tok/s, "
            f"{share:.0%} of {best} roofline"
        )
    return Outcome("; ".join(shown), None if setting.is_tiny else passed, rounded(figures))
