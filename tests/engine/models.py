"""Toy models of every kind of attention, shift and feed-forward that the sampler tells apart."""

from typing import Any

import torch

from tests.toy import toy_model
from unmask.models.spec import MoESpec
from unmask.models.transformer import Model

MOE = MoESpec(layers=(1, 2), num_experts=6, num_active=2, width=24, shared_width=16)

KINDS: dict[str, dict[str, Any]] = {
    "blocks": {},
    "blocks, experts": {"moe": MOE},
    "blocks, shifted": {"is_shifted": True, "block_size": 8, "sub_block_size": 4},
    "canvas": {"attention": "full", "block_size": 6},
    "canvas, shifted": {"attention": "full", "block_size": None, "is_shifted": True},
    "canvas, experts": {"attention": "full", "moe": MOE, "has_qk_norm": False},
}


def model_of(kind: str, dtype: torch.dtype) -> Model:
    """Return a random model of a kind; its heads are together wider than it."""
    return toy_model(1, dtype, head_width=16, max_length=1024, **KINDS[kind])
