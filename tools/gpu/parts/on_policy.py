"""On-policy to the bit: the gap between engine and learner without and with `model.batch_invariant`, and its cost.

Expected on an H200: 25 s per case, most of it compilation (FlexAttention forward and backward, seven Triton programs
per number format, graphs of two engines).
"""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from shapes import drawn_model, sdar_spec
from torch import Tensor

from tools.gpu.measure import median_seconds, parameters, prepare, rounded, seconds
from tools.gpu.part import Outcome, Part, Setting
from unmask.configs.optimizer import OptimizerConfig
from unmask.configs.sft import SFTConfig
from unmask.diffusion.views import Views, views_of_trajectory
from unmask.engine.engine import Engine
from unmask.engine.events import Finished
from unmask.engine.options import EngineParams
from unmask.models.batch_invariant import make_batch_invariant
from unmask.models.heads import RMSNorm
from unmask.models.linear import Linear
from unmask.models.transformer import Model
from unmask.sampling_params import SamplingParams
from unmask.trainers.learner import Learner
from unmask.trainers.losses import build_supervised_objective
from unmask.types import Prompt, Trajectory

# Attention and number format; the cost is measured for the first kind.
CASES = (("block", torch.bfloat16), ("block", torch.float32), ("full, shifted", torch.bfloat16))
KINDS: dict[str, dict[str, Any]] = {
    "block": {},
    "full, shifted": {"attention": "full", "block_size": None, "is_shifted": True},
}
LAYERS = 8  # of the 0.6B shape: 280M parameters with the embedding
ROWS = (1, 8, 63, 256, 2048)


def run(setting: Setting) -> Outcome:
    """Compare both modes of every case; with the mode, no token may differ in one bit."""
    figures: dict[str, Any] = {}
    shown: list[str] = []
    for kind, dtype in CASES:
        name = f"{kind} {str(dtype).removeprefix('torch.')}"
        found = figures[name] = compare(setting, kind, dtype)
        off, on = found["off"], found["on"]
        line = f"{name}: gap max {off['gap']['max']:.1e} off, {on['gap']['max']:.1e} on"
        if "update_s" in on:
            line += (
                f", tokens/s x {on['tokens_per_s'] / off['tokens_per_s']:.2f}"
                f", update s x {on['update_s'] / off['update_s']:.2f}"
            )
        shown.append(line)
    passed = all(
        f["on"]["gap"]["max"] == 0 and f["same_alone"] and all(f["rows"].values())
        for f in figures.values()
    )
    return Outcome("; ".join(shown), passed, rounded(figures))


def compare(setting: Setting, kind: str, dtype: torch.dtype) -> dict[str, Any]:
    """Return the figures of one model without and with the mode."""
    prepare(setting.device)
    spec = replace(sdar_spec("0.6B", setting.is_tiny), **KINDS[kind])
    if not setting.is_tiny:
        spec = replace(spec, num_layers=LAYERS)
    model = drawn_model(spec, setting.device, dtype)
    has_cost = kind == CASES[0][0]
    off, _ = measure(setting, model, has_cost)
    make_batch_invariant(model)
    on, written = measure(setting, model, has_cost)
    few = Engine(model, EngineParams(max_sequences=2, row_budget=512, fuses_commit=False))
    alone = write(few, setting)[:4]
    return {
        "parameters": parameters(model),
        "off": off,
        "on": on,
        "same_alone": [t.behavior_logprobs for t in alone]
        == [t.behavior_logprobs for t in written[: len(alone)]],
        "rows": rows_of_their_own(model),
    }


def measure(
    setting: Setting, model: Model, has_cost: bool
) -> tuple[dict[str, Any], list[Trajectory]]:
    """Return the gap of a model's responses, with its cost if asked for, and the responses."""
    engine = Engine(model)
    learner = Learner(model, OptimizerConfig(token_budget=1024 if setting.is_tiny else 8192))
    written = write(engine, setting)  # compiles, and captures graphs
    views = [views_of_trajectory(t, 1.0, is_full=model.spec.is_full) for t in written]
    figures: dict[str, Any] = {"attention": engine.attention, "gap": gap_of(learner, views)}
    if has_cost:
        engine.update_weights()
        spent = seconds(lambda: write(engine, setting), setting.device)
        figures["tokens_per_s"] = sum(t.num_response for t in written) / spent
        config = SFTConfig.model_validate({"model": {"path": "-"}, "data": {"path": "-"}})
        objective = build_supervised_objective(config)
        denominator = float(sum(int(v.target.sum()) for v in views))

        def update() -> None:
            learner.update(views, objective, denominator, rate=0.0)  # the weights stay

        figures["update_s"] = median_seconds(update, setting.device, 3)
    return figures, written


def write(engine: Engine, setting: Setting) -> list[Trajectory]:
    """Return the responses to prompts of many lengths, half of which share a beginning."""
    count, longest, max_tokens = (6, 80, 8) if setting.is_tiny else (64, 400, 64)
    generator = torch.Generator().manual_seed(0)
    shared = torch.randint(2, 500, (longest,), generator=generator).tolist()
    for number in range(count):
        length = 1 + number * (longest - 1) // count
        ids = shared[:length] if number % 2 else shared[::-1][:length]
        sampling = SamplingParams(
            max_tokens=max_tokens,
            temperature=0.5,
            strategy="dynamic" if number % 3 else "static",
            denoising_steps=None if engine.model.spec.block_size else 8,
            stop_token_ids=(),
            seed=number,
        )
        engine.submit(Prompt("-", number, (), tuple(ids)), sampling)
    events = sorted(engine.collect(), key=lambda event: event.request_id)
    return [_trajectory(event) for event in events]


def _trajectory(event: Finished[Trajectory]) -> Trajectory:
    assert isinstance(event.result, Trajectory), event.result
    return event.result


def gap_of(learner: Learner, views: list[Views]) -> dict[str, float]:
    """Return the differences of the learner's log-probabilities from the engine's, over all targets."""
    scores = learner.score(views)
    gaps = torch.cat(
        [
            (score - v.behavior_logprobs.expand_as(score))[v.target].abs()
            for score, v in zip(scores, views, strict=True)
        ]
    )
    return {
        "tokens": len(gaps),
        "max": float(gaps.max()),
        "mean": float(gaps.mean()),
        "share_above_1e-3": float((gaps > 1e-3).double().mean()),
        "share_not_0": float((gaps > 0).double().mean()),
    }


@torch.no_grad()
def rows_of_their_own(model: Model) -> dict[str, bool]:
    """Return, for each operation on rows, whether it gives a row the same bits in any number of rows."""
    spec = model.spec
    generator = torch.Generator(model.device).manual_seed(1)

    def draw(width: int, dtype: torch.dtype) -> Tensor:
        shape = (max(ROWS), width)
        return torch.randn(shape, generator=generator, device=model.device, dtype=dtype)

    layer = model.backbone.layers[0]
    operations: dict[str, tuple[Any, Tensor]] = {
        name: (module, draw(module.in_features, model.dtype))
        for name, module in layer.named_modules()
        if isinstance(module, Linear)
    }
    operations["head"] = (model.head.projection, draw(spec.width, model.dtype))
    operations["norm"] = (RMSNorm(spec.width, 1e-6).to(model.device), draw(spec.width, model.dtype))
    operations["log_softmax"] = (F.log_softmax, draw(spec.vocab_size, torch.float32))
    return {name: _keeps_rows(*pair, name == "log_softmax") for name, pair in operations.items()}


def _keeps_rows(operation: Any, x: Tensor, takes_dim: bool) -> bool:
    arguments = (-1,) if takes_dim else ()
    whole = operation(x, *arguments)
    return all(torch.equal(operation(x[-n:], *arguments), whole[-n:]) for n in ROWS)


PART = Part(
    "on-policy to the bit: gap between engine and learner, off and on, and its cost",
    "correctness",
    run,
    limit_s=150,
    is_default=False,
)
