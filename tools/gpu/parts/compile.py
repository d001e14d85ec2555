"""Layers of SDAR-4B eager and compiled, attention left out: it is never compiled; about 25 s.

Passes have the rows of decoding (N sequences of a finished block and the next) and of prefill; a training
pass is forward and backward. The difference is that of the hidden states in bf16, as a share of the largest.
"""

from dataclasses import replace
from typing import Any

import torch
from shapes import BLOCK, drawn_model, sdar_spec
from torch import Tensor

from tools.gpu.measure import median_seconds, prepare, rounded
from tools.gpu.part import Outcome, Part, Setting
from unmask.models.transformer import Model

LAYERS = 4
SEQUENCES, PREFILL, TRAINED = (1, 16, 128), (1024, 4096), 8192
# Layers round to bf16 a few times each, in another order when fused.
MOST = 2**-4


def run(setting: Setting) -> Outcome:
    """Measure both in every cell."""
    tiny = setting.is_tiny
    spec = replace(sdar_spec("4B", tiny), num_layers=1 if tiny else LAYERS)
    model = drawn_model(spec, setting.device, torch.bfloat16)
    passes = [("decode", 2 * BLOCK * n) for n in SEQUENCES] + [("prefill", n) for n in PREFILL]
    passes = [("decode", 16)] if tiny else [*passes, ("train", TRAINED)]
    before = [measure(model, *cell) for cell in passes]
    model.backbone.compile_layers()
    after = [measure(model, *cell) for cell in passes]
    cells: list[dict[str, Any]] = []
    for cell, (eager_s, eager), (compiled_s, compiled) in zip(passes, before, after, strict=True):
        gap = float((eager - compiled).abs().max() / eager.abs().max())
        ms = {"eager_ms": 1000 * eager_s, "compiled_ms": 1000 * compiled_s}
        cells.append({"pass": cell[0], "rows": cell[1], **ms, "gap": gap})
    prepare(setting.device)
    ratios = [f"{c['pass']} {c['rows']}: {c['eager_ms'] / c['compiled_ms']:.2f}x" for c in cells]
    figures = {"layers": spec.num_layers, "cells": cells}
    return Outcome("; ".join(ratios), all(c["gap"] < MOST for c in cells), rounded(figures))


def measure(model: Model, kind: str, rows: int) -> tuple[float, Tensor]:
    """Return the seconds of a pass, and its hidden states in fp32."""
    device = model.device
    place = torch.arange(rows, device=device)
    tokens = place % model.spec.vocab_size

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return q + (k + v).repeat_interleave(q.shape[1] // k.shape[1], 1)

    def step() -> Tensor:
        hidden = model.backbone(tokens, place, attend, place)
        if kind == "train":
            hidden.float().square().sum().backward()
            model.zero_grad()
        return hidden.detach().float()

    with torch.set_grad_enabled(kind == "train"):
        return median_seconds(step, device), step()


PART = Part(
    "torch.compile of layers: 4B shape, 4 layers", "speed", run, limit_s=90, is_default=False
)
