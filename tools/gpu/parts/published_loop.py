"""The published sampling loop against the engine at 1.7B; about 20 s.

SDAR's own `generate.py` is not available where this runs: `benchmarks/published_loop.py` has its shape (one
sequence, a concatenated cache, a pass of its own for each commit) over this package's layers, eager. Sixteen
prompts are written one after the other, as it does; their rate is that of a few.
"""

from statistics import median

import torch
from published_loop import Loop
from shapes import drawn_model, sdar_spec

from tools.gpu.decode import make_prompts, sampling_of, serve
from tools.gpu.measure import prepare, rounded, seconds
from tools.gpu.part import Outcome, Part, Setting
from unmask.engine.engine import Engine
from unmask.engine.options import EngineParams

ROUNDS = 3
# Shortest prompt, spread, tokens of the engine, and of the loop.
FULL, TINY = (480, 64, 256, 32), (24, 8, 16, 8)


def run(setting: Setting) -> Outcome:
    """Compare batches of 1 and 16, one and two tokens per pass, in turn."""
    device, is_tiny = setting.device, setting.is_tiny
    prepare(device)
    shortest, spread, written, looped = TINY if is_tiny else FULL
    dtype = torch.float32 if is_tiny else torch.bfloat16
    model = drawn_model(sdar_spec("1.7B", is_tiny), device, dtype).requires_grad_(False)
    prompts = make_prompts(4 if is_tiny else 16, shortest, spread, model.spec.vocab_size)
    engine = Engine(model, EngineParams(max_sequences=len(prompts), shares_prefixes=False))
    cells: list[dict[str, object]] = []
    for per_pass in (1, 2):
        for count in (1, len(prompts)):
            sampling, group = sampling_of(per_pass, written, temperature=0.0), prompts[:count]
            results = sorted(
                serve(engine, group, sampling).trajectories, key=lambda t: t.prompt.uid
            )
            loop = Loop(model, per_pass)
            text = loop.write(group[0].token_ids, looped)[0]
            # bf16 leaves near-ties: the share is 1 in fp32.
            same = [a == b for a, b in zip(text, results[0].response_ids, strict=False)]
            times: dict[str, list[float]] = {"loop": [], "engine": []}
            for turn in range(ROUNDS):
                *_, prefill, decode = loop.write(group[turn % count].token_ids, looped)
                times["loop"].append(count * (prefill + decode * written / looped))
                times["engine"].append(
                    seconds(lambda g=group, s=sampling: serve(engine, g, s), device)
                )
            rates = {name: count * written / median(found) for name, found in times.items()}
            cells.append(
                {
                    "batch": count,
                    "tokens_per_pass": per_pass,
                    "seconds": times,
                    "tokens_per_s": rates,
                    "ratio": rates["engine"] / rates["loop"],
                    "same_tokens": sum(same) / looped,
                }
            )
    summary = "; ".join(
        f"batch {c['batch']} x{c['tokens_per_pass']}: {c['tokens_per_s']['engine']:,.0f} against "  # type: ignore[index]
        f"{c['tokens_per_s']['loop']:,.0f} tok/s, {c['ratio']:.1f}x"  # type: ignore[index]
        for c in cells
    )
    settings = {
        "shape": "1.7B",
        "dtype": str(dtype).removeprefix("torch."),
        "prompt_tokens": [shortest, shortest + spread],
        "written": written,
        "written_by_loop": looped,
        "prefill": "of both sides is in the seconds; the loop's decoding is scaled to `written`",
    }
    return Outcome(summary, None, rounded({"settings": settings, "cells": cells}))


PART = Part(
    "published loop (re-implemented: benchmarks/published_loop.py) against the engine, 1.7B shape",
    "published",
    run,
    limit_s=60,
    is_default=False,
)
