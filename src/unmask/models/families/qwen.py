"""Names of config fields and tensors that the families derived from Qwen's code share.

A family whose config or tensors differ imports the part that fits and adds the rest.
"""

from typing import Any

from unmask.models.families.family import Config, id_value, require, rope, rope_fields, token_ids
from unmask.models.spec import ModelSpec

LAYER = "backbone.layers.{i}"
STORED = "model.layers.{i}"

# Everything except the feed-forward, and the per-head norms that only some have.
NAMES = {
    "backbone.embedding": "model.embed_tokens",
    f"{LAYER}.attention_norm": f"{STORED}.input_layernorm",
    f"{LAYER}.attention.q": f"{STORED}.self_attn.q_proj",
    f"{LAYER}.attention.k": f"{STORED}.self_attn.k_proj",
    f"{LAYER}.attention.v": f"{STORED}.self_attn.v_proj",
    f"{LAYER}.attention.out": f"{STORED}.self_attn.o_proj",
    f"{LAYER}.ffn_norm": f"{STORED}.post_attention_layernorm",
    "backbone.norm": "model.norm",
    "head.projection": "lm_head",
}
QK_NORM_NAMES = {
    f"{LAYER}.attention.q_norm": f"{STORED}.self_attn.q_norm",
    f"{LAYER}.attention.k_norm": f"{STORED}.self_attn.k_norm",
}
FFN_NAMES = {
    f"{LAYER}.ffn.gate": f"{STORED}.mlp.gate_proj",
    f"{LAYER}.ffn.up": f"{STORED}.mlp.up_proj",
    f"{LAYER}.ffn.down": f"{STORED}.mlp.down_proj",
}
EXPERT_NAMES = {
    f"{LAYER}.ffn.router": f"{STORED}.mlp.gate",
    f"{LAYER}.ffn.experts.gate": f"{STORED}.mlp.experts.{{e}}.gate_proj",
    f"{LAYER}.ffn.experts.up": f"{STORED}.mlp.experts.{{e}}.up_proj",
    f"{LAYER}.ffn.experts.down": f"{STORED}.mlp.experts.{{e}}.down_proj",
}


def shared_names(prefix: str) -> dict[str, str]:
    """Return the names of the feed-forward that every token passes, stored at `prefix`."""
    parts = ("gate", "up", "down")
    return {f"{LAYER}.ffn.shared.{part}": f"{prefix}.{part}_proj" for part in parts}


def read_fields(config: Config) -> dict[str, Any]:
    """Return the fields of a `ModelSpec` that have the same keys in all these configs.

    Raises:
        KeyError: for a key that is missing.
        ValueError: for a value that the backbone does not support.
    """
    require(config, hidden_act="silu", use_sliding_window=False)
    theta, scaling = rope(config)
    return {
        "num_layers": config["num_hidden_layers"],
        "width": config["hidden_size"],
        "num_heads": config["num_attention_heads"],
        "num_kv_heads": config["num_key_value_heads"],
        "head_width": config.get("head_dim")
        or config["hidden_size"] // config["num_attention_heads"],
        "vocab_size": config["vocab_size"],
        "max_length": config["max_position_embeddings"],
        "rope_theta": theta,
        "rope_scaling": scaling,
        "norm_eps": config["rms_norm_eps"],
        "is_tied": config.get("tie_word_embeddings", False),
        "mask_id": config.get("mask_token_id"),
        "num_drawable": config["vocab_size"],
        "eos_ids": token_ids(config.get("eos_token_id")),
    }


def write_fields(spec: ModelSpec) -> dict[str, Any]:
    """Return the config fields that `read_fields` reads, and those that go with them."""
    assert spec.num_drawable == spec.vocab_size, "these configs cannot state which ids are text"
    return {
        "attention_dropout": 0.0,
        "eos_token_id": id_value(spec.eos_ids),
        "hidden_act": "silu",
        "hidden_size": spec.width,
        "initializer_range": 0.02,
        "mask_token_id": spec.mask_id,
        "max_position_embeddings": spec.max_length,
        "num_attention_heads": spec.num_heads,
        "num_hidden_layers": spec.num_layers,
        "num_key_value_heads": spec.num_kv_heads,
        "rms_norm_eps": spec.norm_eps,
        "rope_scaling": rope_fields(spec.rope_scaling),
        "rope_theta": spec.rope_theta,
        "tie_word_embeddings": spec.is_tied,
        "vocab_size": spec.vocab_size,
    }


def write_window(spec: ModelSpec) -> dict[str, Any]:
    """Return the config fields of a model without sliding windows."""
    return {
        "max_window_layers": spec.num_layers,
        "sliding_window": None,
        "use_cache": True,
        "use_sliding_window": False,
    }


def rotary_width(config: Config, head_width: int) -> int | None:
    """Return the number of rotated dimensions of a head, by `partial_rotary_factor`; `None` is all of them."""
    factor = config["partial_rotary_factor"]
    return None if factor == 1 else int(head_width * factor)


def rotary_factor(spec: ModelSpec) -> float:
    """Return the `partial_rotary_factor` that `rotary_width` reads."""
    return 1 if spec.rotary_width is None else spec.rotary_width / spec.head_width
