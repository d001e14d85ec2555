"""Random queries, keys and values."""

import torch
from torch import Tensor


def random_heads(num_tokens: int, num_heads: int, num_kv_heads: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(num_tokens)
    heads = (num_heads, num_kv_heads, num_kv_heads)
    return tuple(
        torch.randn(num_tokens, h, 8, generator=generator, dtype=torch.float64) for h in heads
    )
