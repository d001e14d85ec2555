"""SDAR dense and TraDo: a Qwen3 backbone under a block-causal pattern.

TraDo is SDAR after reinforcement learning, saved by the same class. Released configs exist with and
without `block_size` and `mask_token_id`; the `-b8` to `-b64` checkpoints may state the wrong block,
so callers may override it.

Cheng et al., "SDAR: A Synergistic Diffusion-AutoRegression Paradigm" (2025).
"""

from typing import Any

from unmask.models.families.family import Config, Family, require, rope_theta, token_ids
from unmask.models.spec import ModelSpec

LAYER = "backbone.layers.{i}"


def read_spec(config: Config) -> ModelSpec:
    """Read an SDAR config; see `Family.read_spec`."""
    require(config, hidden_act="silu", use_sliding_window=False)
    return ModelSpec(
        family="sdar",
        num_layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        num_heads=config["num_attention_heads"],
        num_kv_heads=config["num_key_value_heads"],
        head_width=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
        ffn_width=config["intermediate_size"],
        vocab_size=config["vocab_size"],
        max_length=config["max_position_embeddings"],
        rope_theta=rope_theta(config),
        norm_eps=config["rms_norm_eps"],
        has_qkv_bias=config.get("attention_bias", False),
        has_qk_norm=True,
        is_tied=config.get("tie_word_embeddings", False),
        mask_id=config.get("mask_token_id"),
        block_size=config.get("block_size") or 4,
        num_drawable=config["vocab_size"],
        eos_ids=token_ids(config.get("eos_token_id")),
    )


def new_config(spec: ModelSpec) -> dict[str, Any]:
    """Write the fields of a released config; no `auto_map`, a new model ships no code."""
    assert spec.has_qk_norm, "every SDAR checkpoint norms its queries and keys"
    return {
        "architectures": ["SDARForCausalLM"],
        "attention_bias": spec.has_qkv_bias,
        "attention_dropout": 0.0,
        "attn_implementation": "flex_attention",
        "block_size": spec.block_size,
        "bos_token_id": None,
        "debug": False,
        "eos_token_id": spec.eos_ids[0] if len(spec.eos_ids) == 1 else list(spec.eos_ids) or None,
        "ep_size": 1,
        "fuse_cross_entropy": True,
        "head_dim": spec.head_width,
        "hidden_act": "silu",
        "hidden_size": spec.width,
        "initializer_range": 0.02,
        "intermediate_size": spec.ffn_width,
        "mask_token_id": spec.mask_id,
        "max_position_embeddings": spec.max_length,
        "max_window_layers": spec.num_layers,
        "micro_forward": False,
        "model_type": "sdar",
        "num_attention_heads": spec.num_heads,
        "num_hidden_layers": spec.num_layers,
        "num_key_value_heads": spec.num_kv_heads,
        "rms_norm_eps": spec.norm_eps,
        "rope_scaling": None,
        "rope_theta": spec.rope_theta,
        "skip_checkpoint": False,
        "sliding_window": None,
        "tie_word_embeddings": spec.is_tied,
        "use_cache": True,
        "use_deepep": False,
        "use_sliding_window": False,
        "vocab_size": spec.vocab_size,
    }


SDAR = Family(
    name="sdar",
    architectures=("SDARForCausalLM",),
    model_type="sdar",
    default_mask_id=151669,
    block_key="block_size",
    mask_key="mask_token_id",
    read_spec=read_spec,
    new_config=new_config,
    modules={
        "backbone.embedding": "model.embed_tokens",
        f"{LAYER}.attention_norm": "model.layers.{i}.input_layernorm",
        f"{LAYER}.attention.q": "model.layers.{i}.self_attn.q_proj",
        f"{LAYER}.attention.k": "model.layers.{i}.self_attn.k_proj",
        f"{LAYER}.attention.v": "model.layers.{i}.self_attn.v_proj",
        f"{LAYER}.attention.out": "model.layers.{i}.self_attn.o_proj",
        f"{LAYER}.attention.q_norm": "model.layers.{i}.self_attn.q_norm",
        f"{LAYER}.attention.k_norm": "model.layers.{i}.self_attn.k_norm",
        f"{LAYER}.ffn_norm": "model.layers.{i}.post_attention_layernorm",
        f"{LAYER}.ffn.gate": "model.layers.{i}.mlp.gate_proj",
        f"{LAYER}.ffn.up": "model.layers.{i}.mlp.up_proj",
        f"{LAYER}.ffn.down": "model.layers.{i}.mlp.down_proj",
        "backbone.norm": "model.norm",
        "head.projection": "lm_head",
    },
)
