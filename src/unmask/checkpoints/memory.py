"""How many parameters a model has, and what memory they take to serve and to train.

Counted from the spec, so no weight is needed. Serving is the weights and a cache of keys and values:
`2 * layers * Hk * E` numbers per token. Training with AdamW, as `trainers/master_weights.py` lays it out on
one device, takes per parameter

    fp32   weight 4, gradient 4, moments 8                              = 16 bytes
    bf16   weight 2, gradient 2, fp32 master 4, fp32 gradient 4, moments 8 = 20 bytes

and on several, fully sharded, an fp32 shard of weight, gradient and moments whatever the number format
of the computation: 16 bytes over the number of devices. Activations, and what a sharded layer takes
while it is gathered, come on top: they depend on `optimizer.token_budget`, not on the model alone.
"""

from dataclasses import dataclass

import torch

from unmask.models.spec import ModelSpec
from unmask.models.transformer import Model

# Bytes of a number; the formats models are run in here.
WIDTHS = {"float32": 4, "bfloat16": 2}
DEVICES = (1, 2, 4, 8)
MASTER, MOMENTS = 4, 8  # bytes per parameter: fp32, and AdamW's two in fp32


@dataclass(frozen=True, slots=True)
class Serving:
    """Bytes it takes to serve, all on one device.

    Attributes:
        dtype: number format of weights and cache.
        weights: of all parameters.
        cache_per_token: keys and values of one token in all layers.
        num_tokens: tokens held in the cache, those of all running sequences together.
        total: weights and cache.
    """

    dtype: str
    weights: int
    cache_per_token: int
    num_tokens: int
    total: int


@dataclass(frozen=True, slots=True)
class Training:
    """Bytes on each device that it takes to train, without activations.

    Attributes:
        dtype: number format the model computes in.
        optimizer: whose moments are counted.
        devices: over how many all of it is sharded.
        weights: what the forward pass reads.
        masters: fp32 copies beside narrower weights.
        gradients: of weights and of masters.
        moments: the optimizer's.
        total: all of them.
    """

    dtype: str
    optimizer: str
    devices: int
    weights: int
    masters: int
    gradients: int
    moments: int
    total: int


def meta_model(spec: ModelSpec) -> Model:
    """Return the model without memory for its weights."""
    with torch.device("meta"):
        return Model(spec)


def count_parameters(model: Model) -> tuple[int, int]:
    """Return how many parameters a model has, and how many of them one token passes.

    They differ by the experts a token is not sent to; an embedding counts whole in both.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    moe = model.spec.moe
    if moe is None:
        return total, total
    stacked = sum(p.numel() for name, p in model.named_parameters() if ".ffn.experts." in name)
    return total, total - stacked * (moe.num_experts - moe.num_active) // moe.num_experts


def serving_memory(spec: ModelSpec, num_parameters: int, num_tokens: int) -> list[Serving]:
    """Return what serving takes in each number format, with `num_tokens` tokens in the cache."""
    numbers = 2 * spec.num_layers * spec.num_kv_heads * spec.head_width
    return [
        Serving(
            dtype=dtype,
            weights=num_parameters * width,
            cache_per_token=numbers * width,
            num_tokens=num_tokens,
            total=num_parameters * width + numbers * width * num_tokens,
        )
        for dtype, width in WIDTHS.items()
    ]


def training_memory(num_parameters: int) -> list[Training]:
    """Return what training takes in each number format, on one device and sharded over several."""
    return [_training(num_parameters, dtype, devices) for dtype in WIDTHS for devices in DEVICES]


def _training(num_parameters: int, dtype: str, devices: int) -> Training:
    width = WIDTHS[dtype]
    has_copy = devices == 1 and width < MASTER
    share = -(-num_parameters // devices)
    parts = {
        "weights": share * (width if devices == 1 else MASTER),
        "masters": share * MASTER if has_copy else 0,
        "gradients": share * (MASTER + width if has_copy else MASTER),
        "moments": share * MOMENTS,
    }
    return Training(dtype, "adamw", devices, **parts, total=sum(parts.values()))
