"""The golden LLaDA-V: its vision side, its language model, and a prompt with an image."""

import json
from functools import cache
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.models.toy import GOLDEN
from unmask.checkpoints.weights import held_tensors
from unmask.models.families import family_named, qwen
from unmask.models.spec import ModelSpec
from unmask.models.transformer import Model

FOLDER = GOLDEN / "lladav"
CASES: dict[str, Any] = json.loads((FOLDER / "cases.json").read_text())
SPECIAL: dict[str, int] = CASES["special_ids"]


@cache
def recorded() -> dict[str, Tensor]:
    return load_file(FOLDER / "expected.safetensors")


@cache
@torch.no_grad()
def language_model() -> Model:
    """Return the language side, whose tensors have the names of Qwen's and Llama's."""
    fields = qwen.read_fields(json.loads((FOLDER / "config.json").read_text()))
    fields["mask_id"] = SPECIAL["<|mdm_mask|>"]
    conventions: dict[str, Any] = {"attention": "full", "has_qkv_bias": False, "has_qk_norm": False}
    model = Model(ModelSpec(**fields, **conventions, family="lladav", block_size=32))
    stored, names = load_file(FOLDER / "model.safetensors"), family_named("dream")
    for name, weight in held_tensors(model).items():
        weight.copy_(stored[names.weight_name(name)])
    return model
