"""A toy model and a toy checkpoint: what most tests run on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unmask.checkpoints.checkpoint import save_model
from unmask.checkpoints.tokenizer import character_tokenizer
from unmask.models.spec import ModelSpec
from unmask.models.transformer import Model, initialise

SPEC = ModelSpec(
    family="sdar",
    num_layers=2,
    width=32,
    num_heads=4,
    num_kv_heads=2,
    head_width=8,
    ffn_width=64,
    vocab_size=24,
    max_length=128,
    rope_theta=1e4,
    norm_eps=1e-6,
    has_qkv_bias=False,
    has_qk_norm=True,
    is_tied=False,
    mask_id=1,
    block_size=4,
    num_drawable=20,
    eos_ids=(0,),
)

ALPHABET = "0123456789+-=; abcde"


def toy_model(seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Model:
    """Return a random model whose distributions are neither flat nor certain."""
    model = Model(replace(SPEC, **changes))
    initialise(model, seed)
    with torch.no_grad():
        model.head.projection.weight.mul_(3)
    return model.to(dtype)


def toy_checkpoint(
    directory: Path, alphabet: str = ALPHABET, seed: int = 0, **changes: Any
) -> Path:
    """Write a random checkpoint with a character tokenizer."""
    character_tokenizer(alphabet, directory)
    vocabulary = len(alphabet) + 2
    save_model(
        toy_model(seed, vocab_size=vocabulary, num_drawable=vocabulary, **changes), directory
    )
    return directory
