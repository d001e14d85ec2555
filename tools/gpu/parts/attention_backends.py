"""One layer's attention of a tick at the shape of SDAR-4B, by each backend, against fp32; about 20 s.

Prefill is one prompt of the context's length under block-causal limits; decoding is N sequences that feed a
finished block and the next. Milliseconds are those of a call that is queued after others, with the
writing of its keys; a backend that disagrees with attention in fp32 by more than rounding fails the part.
"""

from functools import partial
from typing import Any

import torch
from shapes import BLOCK, sdar_spec

from tools.gpu.measure import median_seconds, prepare, rounded
from tools.gpu.part import Outcome, Part, Setting
from unmask.engine.attention import BACKENDS, Shapes, backend_of
from unmask.engine.attention_choice import ROUNDINGS, Tick, disagreement, typical_tick

# Sequences and context of each cell; a prefill feeds the whole context of one.
DECODING = ((1, 1024), (16, 1024), (128, 1024), (1, 4096), (16, 4096), (128, 4096))
PREFILL = (1024, 4096)
# Each cell is compiled, which takes seconds.
COMPILED = {"flex": [(1, 1024, 1024), (128, 1024, 2 * BLOCK), (128, 4096, 2 * BLOCK)]}
CALLS = 10


def run(setting: Setting) -> Outcome:
    """Measure every backend that can run, in every cell."""
    spec = sdar_spec("4B", setting.is_tiny)
    shapes = Shapes(spec, torch.bfloat16, setting.device)
    cells = [(1, c, c) for c in PREFILL] + [(n, c, 2 * BLOCK) for n, c in DECODING]
    if setting.is_tiny:
        cells = [(2, 100, 2 * BLOCK)]
    obstacles = {name: backend_of(name).obstacle(shapes) for name in BACKENDS}
    results: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for name in (name for name in BACKENDS if not obstacles[name]):
        own = cells if setting.is_tiny else COMPILED.get(name, cells)
        try:
            results += [measure(name, shapes, *cell) for cell in own]
        except Exception as error:  # of any library: the others are still measured
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        prepare(setting.device)
    decoding = [r for r in results if r["rows"] < r["context"]]
    largest = max((r["sequences"], r["context"]) for r in decoding)
    shown = [r for r in decoding if (r["sequences"], r["context"]) == largest]
    summary = ", ".join(f"{r['backend']} {r['ms']:.3f} ms" for r in shown)
    summary += f" a layer at N = {largest[0]}, context {largest[1]}"
    summary += "".join(f"; {name} failed: {why}" for name, why in failed.items())
    not_run = {name: why for name, why in obstacles.items() if why}
    figures = {"cells": results, "not_run": not_run, "failed": failed}
    passed = not failed and all(r["agrees"] for r in results)
    return Outcome(summary, passed, rounded(figures))


@torch.inference_mode()
def measure(name: Any, shapes: Shapes, sequences: int, context: int, count: int) -> dict[str, Any]:
    """Return the milliseconds of a call, and its disagreement with fp32."""
    backend = backend_of(name)
    tick: Tick = typical_tick(shapes, backend, sequences, context, count)
    attend = backend.build(shapes.spec)(*tick[:-1])
    gap = disagreement(tick, attend(0, *tick.fed))
    call = partial(attend, 0, *tick.fed)
    spent = median_seconds(lambda: [call() for _ in range(CALLS)], shapes.device, 3) / CALLS
    return {
        "backend": name,
        "sequences": sequences,
        "context": context,
        "rows": count,
        "ms": 1000 * spent,
        "gap": gap,
        "agrees": gap <= ROUNDINGS * torch.finfo(shapes.dtype).eps,
    }


PART = Part("attention backends: one layer at 4B shape", "speed", run, limit_s=45, is_default=False)
