"""Peak memory against the prediction of `unmask inspect` at 1.7B; about 12 s.

Serving: weights and the cache of all tokens, with `engine.cache_tokens` set to them. Training: weights,
gradients, fp32 masters and moments; the activations of a small pack come on top, which `inspect` leaves out.
"""

from collections.abc import Callable
from typing import Any

import torch
from shapes import drawn_model, sdar_spec

from tools.gpu.decode import make_prompts, sampling_of, serve
from tools.gpu.measure import memory_meter, prepare, rounded
from tools.gpu.part import Outcome, Part, Setting
from tools.gpu.train import ANY_RUN, draw_samples
from unmask.checkpoints.memory import count_parameters, memory, meta_model
from unmask.configs.optimizer import OptimizerConfig
from unmask.configs.sft import SFTConfig
from unmask.engine.engine import Engine
from unmask.engine.options import EngineParams
from unmask.models.attention import KEY_CHUNK, round_up
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_supervised_objective

# Sequences, shortest prompt, spread of prompts, tokens written; tokens of a training pack.
FULL, TINY = (64, 960, 48, 16, 8192), (3, 24, 8, 8, 512)


def run(setting: Setting) -> Outcome:
    """Measure a peak of serving and one of training."""
    is_tiny = setting.is_tiny
    count, shortest, spread, written, budget = TINY if is_tiny else FULL
    spec = sdar_spec("1.7B", is_tiny)
    # A page more of each: a sequence is admitted if all that run can take one.
    tokens = count * (round_up(shortest + spread + written, KEY_CHUNK) + KEY_CHUNK)
    dtype = "float32" if is_tiny else "bfloat16"

    def serving() -> Callable[[], object]:
        model = drawn_model(spec, setting.device, getattr(torch, dtype)).requires_grad_(False)
        engine = Engine(model, EngineParams(max_sequences=count, cache_tokens=tokens))
        prompts = make_prompts(count, shortest, spread, spec.vocab_size)
        return lambda: serve(engine, prompts, sampling_of(2, written))

    def training() -> Callable[[], object]:
        model = drawn_model(spec, setting.device, getattr(torch, dtype))
        model.backbone.gradient_checkpointing = True
        learner = Learner(model, OptimizerConfig(token_budget=budget))
        objective = build_supervised_objective(SFTConfig.model_validate(ANY_RUN))
        views = draw_samples(spec.vocab_size, budget // 4)
        return lambda: learner.update(views, objective, 1.0)

    total, _ = count_parameters(meta_model(spec))
    predicted = {m.dtype: m for m in memory(spec, total, tokens)}[dtype]
    figures: dict[str, Any] = {
        "settings": {
            "shape": "1.7B",
            "parameters": total,
            "dtype": dtype,
            "cached_tokens": tokens,
            "training_token_budget": budget,
            "gradient_checkpointing": True,
        }
    }
    wanted = {
        "serving": (serving, predicted.serving),
        "training": (training, predicted.training[0]),
    }
    for name, (build, expected) in wanted.items():
        prepare(setting.device)
        peak = memory_meter(setting.device)(build())
        ratio = None if peak is None else peak / expected
        figures[name] = {"predicted_bytes": expected, "peak_bytes": peak, "ratio": ratio}
    return Outcome("; ".join(map(_shown, wanted, map(figures.get, wanted))), None, rounded(figures))


def _shown(name: str, found: Any) -> str:
    if found["peak_bytes"] is None:
        return f"{name}: predicted {found['predicted_bytes'] / 2**30:.2f} GiB, not measured"
    return (
        f"{name}: peak {found['peak_bytes'] / 2**30:.1f} GiB, {found['ratio']:.2f} of what "
        "`inspect` predicts"
    )


PART = Part("peak memory against `unmask inspect`, 1.7B shape", "speed", run, limit_s=60)
