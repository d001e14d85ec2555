"""Shapes of published models, and random weights for them."""

from typing import Any

import torch

from unmask.models.spec import ModelSpec
from unmask.models.transformer import RESIDUAL_PROJECTIONS, Model, initialise

VOCABULARY, BLOCK = 151_936, 4
# Qwen3, whose layers SDAR has: width, layers, and what differs from `model_spec`.
QWEN3 = {"num_kv_heads": 8, "head_width": 128, "is_tied": True}
SHAPES: dict[str, tuple[int, int, dict[str, Any]]] = {
    "0.6B": (1024, 28, {"num_heads": 16, "ffn_width": 3072}),
    "1.7B": (2048, 28, {"num_heads": 16, "ffn_width": 6144}),
    "4B": (2560, 36, {"num_heads": 32, "ffn_width": 9728}),
    "8B": (4096, 36, {"num_heads": 32, "ffn_width": 12288, "is_tied": False}),
}
TINY: tuple[int, int, dict[str, Any]] = (
    64,
    2,
    {"num_heads": 4, "num_kv_heads": 2, "head_width": 16, "ffn_width": 128},
)


def sdar_spec(shape: str, is_tiny: bool = False) -> ModelSpec:
    """Return the spec of an SDAR of a shape of `SHAPES`, block 4; a toy with the same ratios if tiny."""
    width, layers, changes = TINY if is_tiny else SHAPES[shape]
    return model_spec(width, layers, 512 if is_tiny else VOCABULARY, BLOCK, **(QWEN3 | changes))


def drawn_model(spec: ModelSpec, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Model:
    """Return random weights of the sizes of `initialise`, drawn in `dtype` on the device itself."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = Model(spec)
    finally:
        torch.set_default_dtype(before)
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                of_residual = (2 * spec.num_layers) ** -0.5
                std = parameter.shape[-1] ** -0.5
                std *= of_residual if name.endswith(RESIDUAL_PROJECTIONS) else 1.0
                parameter.normal_(0, std, generator=generator)
    return model


def random_model(spec: ModelSpec, seed: int, device: str, dtype: torch.dtype) -> Model:
    """Return random weights."""
    model = Model(spec)
    initialise(model, seed)
    return model.to(device, dtype)


def model_spec(width: int, layers: int, vocabulary: int, block: int | None, **changes) -> ModelSpec:
    """Return a model of usual proportions: head width 64, grouped queries, feed-forward three times as wide."""
    usual = {
        "num_heads": width // 64,
        "num_kv_heads": max(1, width // 128),
        "head_width": 64,
        "ffn_width": 3 * width,
        "is_tied": False,
    }
    return ModelSpec(
        family="sdar" if block else "llada",
        num_layers=layers,
        width=width,
        vocab_size=vocabulary,
        max_length=32768,
        rope_theta=1e6,
        norm_eps=1e-6,
        has_qkv_bias=False,
        has_qk_norm=True,
        mask_id=0,
        block_size=block,
        attention="block_causal" if block else "full",
        num_drawable=vocabulary,
        eos_ids=(1,),
        **(usual | changes),
    )
