"""LoRA on the device: forward, merge, gradients, and an engine that serves adapters after an update.

The slow twin of forward and gradients is the same model in fp64 on the CPU.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from tools.gpu.part import Outcome, Part, Setting
from tools.gpu.small_models import (
    FORMATS,
    difference,
    gradients_of,
    random_prompts,
    relative,
    sampling_of,
    small_model,
    training_pack,
    worst,
)
from unmask.diffusion.layout import Pack
from unmask.engine.llm import LLM
from unmask.models.lora import LoRAParams, adapters, add_lora, merge_lora
from unmask.models.transformer import Model

# Largest differences as shares of the largest value: of logits, and of gradients.
BOUND = {"fp32": (1e-4, 1e-3), "bf16": (0.05, 0.1)}


def run(setting: Setting) -> Outcome:
    """Check a model with adapters on every projection in both formats."""
    figures: dict[str, Any] = {}
    passed = True
    for name, dtype in FORMATS.items():
        model = adapted(setting, dtype)
        text = torch.arange(2, 2 + 24, device=setting.device)[None]
        twin = copy.deepcopy(model).cpu().double()
        pack = training_pack(setting, model, 128 if setting.is_tiny else 1024)
        found: dict[str, Any] = {
            "forward": difference(logits(model, text).cpu(), logits(twin, text.cpu())),
            "merged": difference(logits(merge_lora(model), text), logits(model, text)),
            "gradients": compare_gradients(model, twin, pack),
            **serve(setting, model),
        }
        figures[name] = found
        logit_bound, gradient_bound = BOUND[name]
        passed &= max(relative(found["forward"]), relative(found["merged"])) <= logit_bound
        passed &= relative(found["gradients"]) <= gradient_bound
        passed &= found["new_weights_are_served"] and found["graphs_read_new_weights"]
    parts = (
        f"{name} forward {relative(x['forward']):.1e}, gradients {relative(x['gradients']):.1e}"
        for name, x in figures.items()
    )
    return Outcome(f"of the largest value: {'; '.join(parts)}", passed, figures)


def adapted(setting: Setting, dtype: torch.dtype) -> Model:
    """Return a model with adapters that change its outputs."""
    model = small_model(setting, dtype)
    add_lora(model, LoRAParams(rank=8, alpha=16.0))
    move_adapters(model, seed=1)
    return model


@torch.no_grad()
def move_adapters(model: Model, seed: int) -> None:
    """Add a random change to all adapters, in place, as an optimizer step does."""
    generator = torch.Generator().manual_seed(seed)
    for adapter in adapters(model).values():
        drawn = torch.randn(adapter.lora_b.shape, generator=generator) * 0.05
        adapter.lora_b.add_(drawn.to(adapter.lora_b))


@torch.no_grad()
def logits(model: Model, text: Tensor) -> Tensor:
    """Return the dense logits of a text."""
    return model.logits(text)


def compare_gradients(model: Model, twin: Model, pack: Pack) -> dict[str, float]:
    """Return the worst difference of the adapters' gradients from those of the fp64 twin."""
    ours = gradients_of(model, pack)
    theirs = gradients_of(twin, pack.to(torch.device("cpu")))
    return worst([ours[name].cpu() for name in theirs], list(theirs.values()))


def serve(setting: Setting, model: Model) -> dict[str, bool]:
    """Let one engine write, change the adapters under its captured graphs, and write again."""
    count, longest, max_tokens = (2, 12, 8) if setting.is_tiny else (4, 100, 24)
    prompts = random_prompts(count, model.spec.num_drawable, longest)
    asks = prompts, sampling_of(count, max_tokens)
    llm = LLM(model)
    llm.complete(*asks)  # captures the steps that the next ones replay
    before = llm.complete(*asks)
    move_adapters(model, seed=2)
    llm.engine.update_weights()
    after, fresh = llm.complete(*asks), LLM(model).complete(*asks)

    def bits(written: list[Any]) -> list[Any]:
        return [(t.canvas_ids, t.step_map, t.behavior_logprobs) for t in written]

    return {
        "new_weights_are_served": bits(after) != bits(before),
        "graphs_read_new_weights": bits(after) == bits(fresh),
    }


PART = Part(
    "LoRA: forward, merge, gradients, engine", "correctness", run, limit_s=60, is_default=False
)
