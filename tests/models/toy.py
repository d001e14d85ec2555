"""Toy models of every family, and where the golden files are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import tests.toy
from unmask.models.families.lladav import TINY_TOWER
from unmask.models.families.mmada import ids_behind
from unmask.models.spec import ModelSpec, MoESpec
from unmask.models.transformer import Model
from unmask.models.vision.lladav import LladavVisionSpec
from unmask.models.vision.mmada_prompt import MmadaIds

GOLDEN = Path(__file__).parents[1] / "golden"

# Heads that are together wider than the model, and a mask id behind every token.
CHANGES = {"head_width": 16, "vocab_size": 40, "num_drawable": 40, "mask_id": 39}


def toy_spec(**changes: Any) -> ModelSpec:
    """Return the spec of a two-layer SDAR model, with `changes`."""
    return replace(tests.toy.SPEC, **(CHANGES | changes))


def toy_model(**changes: Any) -> Model:
    """Return a random model of `toy_spec(**changes)`."""
    return tests.toy.toy_model(**(CHANGES | changes))


# Differences of a family's smallest model from SDAR's, with each of its conventions in use.
FULL = {"attention": "full", "block_size": 32, "head_width": 8}
QWEN2 = {"head_width": 8, "has_qkv_bias": True, "has_qk_norm": False, "is_shifted": True}
SOFTMAX = MoESpec(layers=(0, 2), num_experts=6, num_active=3, width=24)
SIGMOID = MoESpec(
    layers=(1, 2),
    num_experts=8,
    num_active=3,
    width=24,
    shared_width=48,
    router="grouped_sigmoid",
    renormalises=True,
    scale=2.5,
    num_groups=4,
    num_active_groups=2,
    has_bias=True,
)
# Six special tokens of images, and four codes.
MMADA_IDS = replace(ids_behind(30, MmadaIds(num_codes=4, side=2)), mask=29)
FAMILY_CHANGES: dict[str, dict[str, Any]] = {
    "sdar": {},
    "sdar_moe": {"num_layers": 3, "moe": replace(SOFTMAX, renormalises=True)},
    "llada": FULL | {"num_kv_heads": 1, "has_qk_norm": False},
    "mmada": FULL
    | {"has_qk_norm": False, "num_drawable": 30, "mask_id": 29, "image_ids": MMADA_IDS},
    "llada_moe": FULL
    | {"num_layers": 3, "moe": replace(SOFTMAX, shared_width=16, has_bias=True), "rotary_width": 4},
    "lladav": FULL
    | {"has_qk_norm": False, "vision": LladavVisionSpec(tests.toy.SPEC.width, TINY_TOWER)},
    "llada2": {"num_layers": 3, "moe": SIGMOID, "rotary_width": 8},
    "dream": QWEN2 | {"attention": "full", "block_size": None},
    "fast_dllm_v2": QWEN2 | {"block_size": 16, "sub_block_size": 8},
}


def family_model(family: str, seed: int = 0, **changes: Any) -> Model:
    """Return a random model of a family, its biases, norms and buffers drawn too."""
    model = toy_model(seed=seed, family=family, **(FAMILY_CHANGES[family] | changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.dim() == 1 and tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return model
