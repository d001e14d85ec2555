"""The sampling statistics of SDAR-4B's logits as one compiled function, against those the engine runs; about 20 s.

Compiled, they read the logits fewer times. The engine runs them as they are: a compiled sum may round differently.
"""

from dataclasses import replace
from typing import Any

import torch
from shapes import BLOCK, drawn_model, sdar_spec

from tools.gpu.decode import sampling_inputs, sampling_of
from tools.gpu.measure import median_seconds, prepare, rounded
from tools.gpu.part import Outcome, Part, Setting
from unmask.diffusion.token_sampling import propose
from unmask.engine.engine import Engine

SEQUENCES = 128


@torch.inference_mode()
def run(setting: Setting) -> Outcome:
    """Measure both on the rows of a block of every sequence."""
    device, is_tiny = setting.device, setting.is_tiny
    prepare(device)
    spec = replace(sdar_spec("4B", is_tiny), num_layers=1)
    model = drawn_model(spec, device, torch.float32 if is_tiny else torch.bfloat16)
    rows = (2 if is_tiny else SEQUENCES) * BLOCK
    _, arguments = sampling_inputs(Engine(model), sampling_of(1, BLOCK), rows)
    # Kernels are generated on a GPU only.
    found = compare(arguments, device, "inductor" if device.type == "cuda" else "eager")
    summary = f"{rows} rows: {found['eager_ms']:.3f} ms, compiled {found['compiled_ms']:.3f} ms"
    return Outcome(summary, None, rounded({"rows": rows, **found}))


def compare(arguments: tuple[Any, ...], device: torch.device, backend: str) -> dict[str, float]:
    """Return the milliseconds of both, and how far their results differ."""
    compiled = torch.compile(propose, backend=backend, dynamic=False, fullgraph=True)
    own, other = propose(*arguments), compiled(*arguments)
    return {
        "eager_ms": 1e3 * median_seconds(lambda: propose(*arguments), device),
        "compiled_ms": 1e3 * median_seconds(lambda: compiled(*arguments), device),
        "other_tokens": float((own.tokens != other.tokens).double().mean()),
        "entropy_difference": float((own.entropy - other.entropy).abs().max()),
    }


PART = Part(
    "sampling statistics compiled, 4B shape, 128 sequences",
    "speed",
    run,
    limit_s=60,
    is_default=False,
)
