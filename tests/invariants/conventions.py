"""One model of each kind that training must know: attention, shift and experts, toys and golden weights."""

from typing import Any

import torch

from tests.engine.golden_traces import FAMILIES, GOLDEN, compared
from tests.models.toy import SIGMOID, SOFTMAX
from tests.toy import toy_model
from unmask.checkpoints.checkpoint import load_model
from unmask.models.transformer import Model

FULL = {"attention": "full", "block_size": None}
SHIFTED = {"is_shifted": True}

TOYS: dict[str, dict[str, Any]] = {
    "block-causal": {},
    "block-causal, shifted": SHIFTED,
    "block-causal, experts": {"num_layers": 3, "moe": SOFTMAX},
    "full": FULL,
    "full, shifted": FULL | SHIFTED,
    "full, experts": FULL | {"num_layers": 3, "moe": SIGMOID},
}

EVERY_MODEL = (*TOYS, *(f"golden {family}" for family in FAMILIES))


def model_of(name: str, dtype: torch.dtype) -> Model:
    """Return the toy, or the golden model, of a name in `EVERY_MODEL`."""
    if name in TOYS:
        return toy_model(1, dtype, **TOYS[name])
    family = name.removeprefix("golden ")
    return load_model(GOLDEN / family, dtype=dtype, mask_id=compared(family)[0].mask_id)
