"""A toy model, and where the golden files are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from unmask.models.spec import ModelSpec
from unmask.models.transformer import Model, initialise

GOLDEN = Path(__file__).parents[1] / "golden"


def toy_spec(**changes: Any) -> ModelSpec:
    """Return the spec of a two-layer SDAR model, with `changes`."""
    spec = ModelSpec(
        family="sdar",
        num_layers=2,
        width=32,
        num_heads=4,
        num_kv_heads=2,
        head_width=16,
        ffn_width=48,
        vocab_size=40,
        max_length=64,
        rope_theta=10000.0,
        norm_eps=1e-6,
        has_qkv_bias=False,
        has_qk_norm=True,
        is_tied=False,
        mask_id=39,
        block_size=4,
        num_drawable=40,
        eos_ids=(0,),
    )
    return replace(spec, **changes)


def toy_model(**changes: Any) -> Model:
    """Return a random model of `toy_spec(**changes)`."""
    model = Model(toy_spec(**changes))
    initialise(model, seed=0)
    return model
