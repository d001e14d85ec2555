"""Random models and prompts for the parts of the group `correctness`, and differences between tensors.

The models have the shapes that decide which kernels run (heads 128 wide, four of them per key head, blocks of
4) and few layers: a part takes seconds, most of them for compilation.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tools.gpu.part import Setting
from unmask.diffusion.layout import Pack, pack_views
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import views_of_responses
from unmask.engine.scoring import score_pack
from unmask.models.conventions import conventions_of
from unmask.models.heads import Scores
from unmask.models.spec import ModelSpec, MoESpec
from unmask.models.transformer import Model, initialise
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Differences that rounding may cause. Of log-probabilities on average, and the largest: bf16 differs from fp32 by
# 0.03 and 0.2 in 192 tokens of the model below. Of the two numbers that a decision compares, in probability.
LOGPROB = {"fp32": 1e-3, "bf16": 0.05}
LARGEST = {"fp32": 1e-3, "bf16": 0.5}
TIE = {"fp32": 1e-3, "bf16": 0.15}

SPEC = ModelSpec(
    family="sdar",
    num_layers=4,
    width=512,
    num_heads=8,
    num_kv_heads=2,
    head_width=128,
    ffn_width=1536,
    vocab_size=4096,
    max_length=8192,
    rope_theta=1e6,
    norm_eps=1e-6,
    is_tied=False,
    mask_id=1,
    block_size=4,
    num_drawable=4096,
    eos_ids=(0,),
    has_qk_norm=True,
)
TINY: dict[str, Any] = {
    "num_layers": 2,
    "width": 32,
    "num_heads": 4,
    "head_width": 8,
    "ffn_width": 64,
    "vocab_size": 64,
    "num_drawable": 64,
}
EXPERTS = MoESpec(layers=(0, 1), num_experts=32, num_active=4, width=256, renormalises=True)


def small_model(setting: Setting, dtype: torch.dtype, **changes: Any) -> Model:
    """Return a random model on the device, whose distributions are neither flat nor certain."""
    sizes = TINY if setting.is_tiny else {}
    model = Model(replace(SPEC, **(sizes | changes)))
    initialise(model, seed=0)
    with torch.no_grad():
        model.head.projection.weight.mul_(3)
    return model.to(setting.device, dtype)


def small_experts(setting: Setting) -> MoESpec:
    """Return experts for `small_model(moe=...)`, all widths multiples of 16 bytes."""
    return replace(EXPERTS, num_experts=6, num_active=2, width=32) if setting.is_tiny else EXPERTS


def random_prompts(count: int, vocabulary: int, longest: int) -> list[Prompt]:
    """Return prompts of different lengths, `longest` the last one's."""
    rng = random.Random(count)
    lengths = [3 + (longest - 3) * (n + 1) // count for n in range(count)]
    ids = [tuple(rng.randrange(2, vocabulary) for _ in range(length)) for length in lengths]
    return [Prompt("gpu_check", uid, (), tokens) for uid, tokens in enumerate(ids)]


def sampling_of(count: int, max_tokens: int) -> list[SamplingParams]:
    """Return parameters of `count` responses that never end early: drawn and greedy, one or more tokens a step."""
    kinds: tuple[dict[str, Any], ...] = (
        {"strategy": "static", "temperature": 1.0},
        {"strategy": "dynamic", "threshold": 0.3, "temperature": 0.0},
        {"strategy": "dynamic", "threshold": 0.2, "temperature": 0.7, "top_k": 50},
    )
    shared: dict[str, Any] = {"max_tokens": max_tokens, "stop_token_ids": ()}
    return [SamplingParams(seed=n, **shared, **kinds[n % len(kinds)]) for n in range(count)]


def difference(found: Tensor, expected: Tensor) -> dict[str, float]:
    """Return the largest and the mean absolute difference, and the largest expected value.

    A number that is not finite makes all three infinite, which no bound lets pass.
    """
    apart = (found.double() - expected.double()).abs()
    if not bool(apart.isfinite().all()):
        return dict.fromkeys(("max", "mean", "scale"), float("inf"))
    return {
        "max": float(apart.max()),
        "mean": float(apart.mean()),
        "scale": float(expected.double().abs().max()),
    }


def worst(found: Sequence[Tensor], expected: Sequence[Tensor]) -> dict[str, float]:
    """Return the difference that is largest in proportion to its scale, over pairs of tensors."""
    pairs = [difference(*pair) for pair in zip(found, expected, strict=True)]
    return max(pairs, key=relative)


def relative(found: dict[str, float]) -> float:
    """Return the largest difference as a share of the largest value; infinite if it is not finite."""
    if found["max"] == float("inf"):
        return float("inf")
    return found["max"] / max(found["scale"], 1e-30)


def training_pack(setting: Setting, model: Model, tokens: int) -> Pack:
    """Return a pack of noisy views of random responses that fills about `tokens`, on the device."""
    rng = random.Random(tokens)
    length, prompt_length = max(8, tokens // 64), max(5, tokens // 256)

    def ids(count: int) -> list[int]:
        return [rng.randrange(2, model.spec.num_drawable) for _ in range(count)]

    pairs = [(tuple(ids(prompt_length)), ids(length)) for _ in range(16)]
    views = views_of_responses(
        pairs, model.spec.block_size, (NoiseSchedule(0.2, 0.9), 2), range(16)
    )
    return pack_views(views, conventions_of(model), tokens)[0].to(setting.device)


def gradients_of(model: Model, pack: Pack) -> dict[str, Tensor]:
    """Return the gradients of the mean negative log-likelihood of a pack's targets, by parameter."""
    scores: Scores = score_pack(model, pack)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(-scores.logprobs.mean(), list(trained.values()))
    return dict(zip(trained, found, strict=True))
