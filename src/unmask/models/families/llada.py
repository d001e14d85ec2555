"""LLaDA-8B Base and Instruct, and LLaDA-1.5: full attention, unshifted, with OLMo's names.

Two traps in the names: `ff_proj` is the gate and `up_proj` the other half; a layer's
`ff_out` is its down projection and the `ff_out` outside the layers is the head.

Blocks are only an order of writing (semi-autoregressive sampling); no config states them, and the demos
use 32.

Nie et al., "Large Language Diffusion Models" (2025).
"""

from typing import Any

from unmask.models.families.family import (
    Config,
    Family,
    id_value,
    require,
    rope_theta,
    tiny_spec,
    token_ids,
)
from unmask.models.spec import ModelSpec

LAYER = "backbone.layers.{i}"
STORED = "model.transformer.blocks.{i}"

# Parts of OLMo's config in which all LLaDAs agree; the backbone supports no other value.
PLAIN = {
    "activation_type": "silu",
    "alibi": False,
    "attention_layer_norm": False,
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "llama",
    "include_bias": False,
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "rope": True,
    "scale_logits": False,
}
# Defaults of the published class for absent keys, where the backbone supports another value only.
CLASS_DEFAULTS = {
    "activation_type": "swiglu",
    "block_type": "sequential",
    "layer_norm_type": "default",
    "rope": False,
    "weight_tying": True,
}


def read_spec(config: Config) -> ModelSpec:
    """Read a LLaDA config; see `Family.read_spec`."""
    config = {**CLASS_DEFAULTS, **config}
    require(config, **PLAIN)
    width, num_heads = config["d_model"], config["n_heads"]
    num_kv_heads = 1 if config.get("multi_query_attention") else config.get("n_kv_heads")
    vocab_size = config.get("embedding_size") or config["vocab_size"]
    return ModelSpec(
        family="llada",
        num_layers=config["n_layers"],
        width=width,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads or num_heads,
        head_width=width // num_heads,
        ffn_width=config.get("mlp_hidden_size") or config["mlp_ratio"] * width,
        vocab_size=vocab_size,
        max_length=config["max_sequence_length"],
        rope_theta=rope_theta(config),
        norm_eps=config["rms_norm_eps"],
        has_qkv_bias=config.get("include_qkv_bias") or False,
        is_tied=config["weight_tying"],
        mask_id=config.get("mask_token_id"),
        block_size=32,
        num_drawable=min(config["vocab_size"], vocab_size),
        eos_ids=token_ids(config.get("eos_token_id")),
        attention="full",
    )


def new_config(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of a released config; no `auto_map`, a new model ships no code."""
    assert not spec.has_qk_norm, "no LLaDA norms its queries and keys"
    assert spec.head_width * spec.num_heads == spec.width, "a LLaDA config has no head width"
    return {
        **PLAIN,
        "alibi_bias_max": 8.0,
        "architectures": ["LLaDAModelLM"],
        "attention_dropout": 0.0,
        "attention_layer_norm_with_affine": True,
        "d_model": spec.width,
        "embedding_dropout": 0.0,
        "embedding_size": spec.vocab_size,
        "eos_token_id": id_value(spec.eos_ids),
        "flash_attention": False,
        "include_qkv_bias": spec.has_qkv_bias,
        "init_cutoff_factor": None,
        "init_device": "meta",
        "init_fn": "mitchell",
        "init_std": 0.02,
        "mask_token_id": spec.mask_id,
        "max_sequence_length": spec.max_length,
        "mlp_hidden_size": spec.ffn_width,
        "mlp_ratio": 4,
        "model_type": "llada",
        "multi_query_attention": None,
        "n_heads": spec.num_heads,
        "n_kv_heads": spec.num_kv_heads,
        "n_layers": spec.num_layers,
        "pad_token_id": spec.eos_ids[0] if spec.eos_ids else None,
        "precision": "amp_bf16",
        "residual_dropout": 0.0,
        "rms_norm_eps": spec.norm_eps,
        "rope_full_precision": True,
        "rope_theta": spec.rope_theta,
        "use_cache": False,
        "vocab_size": spec.num_drawable,
        "weight_tying": spec.is_tied,
    }


NAMES = {
    "backbone.embedding": "model.transformer.wte",
    f"{LAYER}.attention_norm": f"{STORED}.attn_norm",
    **{f"{LAYER}.attention.{part}": f"{STORED}.{part}_proj" for part in "qkv"},
    f"{LAYER}.attention.out": f"{STORED}.attn_out",
    f"{LAYER}.ffn_norm": f"{STORED}.ff_norm",
    f"{LAYER}.ffn.gate": f"{STORED}.ff_proj",
    f"{LAYER}.ffn.up": f"{STORED}.up_proj",
    f"{LAYER}.ffn.down": f"{STORED}.ff_out",
    "backbone.norm": "model.transformer.ln_f",
    "head.projection": "model.transformer.ff_out",
}

FAMILY = Family(
    name="llada",
    architectures=("LLaDAModelLM",),
    model_type="llada",
    default_mask_id=126336,
    read_spec=read_spec,
    new_config=new_config,
    modules=NAMES,
    tiny=tiny_spec("llada", attention="full", block_size=32),
    preset="llada_official",
    reference_arguments="none",
    dllm_rl_presets={"llada": "llada_official"},
)
