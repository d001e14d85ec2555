"""Seconds from a learner's weights to an engine's, of one module or of two at 1.7B; about 5 s.

shared   engine and learner hold one module: caches under the old weights are dropped
copied   the engine's own module of the same number format takes every parameter
masters  the same from fp32 weights, rounded on the way
"""

import torch
from shapes import drawn_model, sdar_spec

from tools.gpu.measure import median_seconds, parameters, prepare, rounded
from tools.gpu.part import Outcome, Part, Setting
from unmask.engine.engine import Engine

BAR_S = 0.1


def run(setting: Setting) -> Outcome:
    """Measure the three ways, and check that a copy holds the new weights."""
    device = setting.device
    prepare(device)
    spec = sdar_spec("1.7B", setting.is_tiny)
    dtype = torch.float32 if setting.is_tiny else torch.bfloat16
    learner, own = (drawn_model(spec, device, dtype, seed) for seed in (1, 2))
    masters = drawn_model(spec, device, torch.float32, seed=3)
    shared, copied = Engine(learner), Engine(own)
    seconds = {
        "masters": median_seconds(
            lambda: copied.update_weights(masters.named_parameters()), device
        ),
        "copied": median_seconds(lambda: copied.update_weights(learner.named_parameters()), device),
        "shared": median_seconds(shared.update_weights, device),
    }
    pairs = zip(learner.parameters(), own.parameters(), strict=True)
    is_copied = all(torch.equal(new, held) for new, held in pairs)
    size = sum(p.numel() * p.element_size() for p in own.parameters())
    summary = "; ".join(f"{name} {1e3 * spent:.2f} ms" for name, spent in sorted(seconds.items()))
    figures = {
        "parameters": parameters(own),
        "bytes": size,
        "dtype": str(dtype).removeprefix("torch."),
        "seconds": seconds,
        "bytes_per_s_copied": 2 * size / seconds["copied"],
    }
    passed = is_copied and max(seconds.values()) <= BAR_S
    return Outcome(summary, passed, rounded(figures))


PART = Part("weight sync learner to engine, 1.7B shape", "speed", run, limit_s=30)
