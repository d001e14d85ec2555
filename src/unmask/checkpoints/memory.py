"""The parameters of a model, and the memory that they take to serve and to train.

Everything is computed from the spec; no weight is read. Serving takes the weights and a cache of keys
and values, `2 * layers * Hk * E` numbers per token. Training with AdamW on one device, as
`trainers/master_weights.py` stores it, takes per parameter

    fp32   weight 4, gradient 4, moments 8                                 = 16 bytes
    bf16   weight 2, gradient 2, fp32 master 4, fp32 gradient 4, moments 8 = 20 bytes

and on several devices a shard of these, and the engine's whole copy of the weights. Activations, and a layer
while it is gathered, come on top: they depend on `optimizer.token_budget`, not on the model alone, and
`unmask plan` counts them.
"""

from dataclasses import dataclass

import torch

from unmask.models.spec import ModelSpec
from unmask.models.transformer import Model

# Bytes of a number, and of a parameter trained on one device.
FORMATS = {"float32": (4, 16), "bfloat16": (2, 20)}
DEVICES = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a model takes in one number format.

    Attributes:
        dtype: number format of weights and cache.
        weights: of all parameters.
        cache_per_token: keys and values of one token in all layers.
        num_tokens: tokens in the cache, of all running sequences together.
        serving: weights and cache.
        training: on each device, for each number of `DEVICES`, without activations.
    """

    dtype: str
    weights: int
    cache_per_token: int
    num_tokens: int
    serving: int
    training: tuple[int, ...]


def meta_model(spec: ModelSpec) -> Model:
    """Return the model without memory for its weights."""
    with torch.device("meta"):
        return Model(spec)


def count_parameters(model: Model) -> tuple[int, int]:
    """Return the number of parameters of a model, and of those that one token passes.

    They differ by the experts a token is not sent to; an embedding counts whole in both.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    moe = model.spec.moe
    if moe is None:
        return total, total
    stacked = sum(p.numel() for name, p in model.named_parameters() if ".ffn.experts." in name)
    return total, total - stacked * (moe.num_experts - moe.num_active) // moe.num_experts


def memory(spec: ModelSpec, num_parameters: int, num_tokens: int) -> list[Memory]:
    """Return the memory in each number format, with `num_tokens` tokens in the cache."""
    numbers = 2 * spec.num_layers * spec.num_kv_heads * spec.head_width
    return [
        Memory(
            dtype=dtype,
            weights=num_parameters * width,
            cache_per_token=numbers * width,
            num_tokens=num_tokens,
            serving=num_parameters * width + numbers * width * num_tokens,
            training=tuple(
                # Rounded up: the last shard is padded.
                -(-num_parameters // devices) * trained + (devices > 1) * num_parameters * width
                for devices in DEVICES
            ),
        )
        for dtype, (width, trained) in FORMATS.items()
    ]
