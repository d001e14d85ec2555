"""Names of config fields and tensors that the families derived from Qwen's code share.

A family whose config or tensors differ imports the part that fits and adds the rest.
"""

from typing import Any

from unmask.models.families.family import Config, id_value, require, rope, rope_fields, token_ids
from unmask.models.spec import ModelSpec

LAYER, STORED = "backbone.layers.{i}", "model.layers.{i}"


def gated_names(ours: str, stored: str) -> dict[str, str]:
    """Return the names of the gated feed-forward `ours` of a layer, stored at `stored`."""
    parts = ("gate", "up", "down")
    return {f"{LAYER}.{ours}.{part}": f"{STORED}.{stored}.{part}_proj" for part in parts}


# Everything except experts; a model without norms of queries and keys does not look theirs up.
NAMES = {
    "backbone.embedding": "model.embed_tokens",
    f"{LAYER}.attention_norm": f"{STORED}.input_layernorm",
    **{f"{LAYER}.attention.{part}": f"{STORED}.self_attn.{part}_proj" for part in "qkv"},
    **{f"{LAYER}.attention.{part}_norm": f"{STORED}.self_attn.{part}_norm" for part in "qk"},
    f"{LAYER}.attention.out": f"{STORED}.self_attn.o_proj",
    f"{LAYER}.ffn_norm": f"{STORED}.post_attention_layernorm",
    **gated_names("ffn", "mlp"),
    "backbone.norm": "model.norm",
    "head.projection": "lm_head",
}
EXPERT_NAMES = {
    f"{LAYER}.ffn.router": f"{STORED}.mlp.gate",
    **gated_names("ffn.experts", "mlp.experts.{e}"),
}


def read_fields(config: Config, ffn_key: str = "intermediate_size") -> dict[str, Any]:
    """Return the fields of a `ModelSpec` that have the same keys in all these configs.

    Args:
        config: the content of the file.
        ffn_key: key of the width of the dense feed-forward.

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
        "ffn_width": config[ffn_key],
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


def write_fields(spec: ModelSpec, ffn_key: str = "intermediate_size") -> dict[str, Any]:
    """Return the config fields that `read_fields` reads, and those that go with them."""
    assert spec.num_drawable == spec.vocab_size, "these configs cannot state which ids are text"
    return {
        "attention_dropout": 0.0,
        "eos_token_id": id_value(spec.eos_ids),
        "hidden_act": "silu",
        "hidden_size": spec.width,
        "initializer_range": 0.02,
        ffn_key: spec.ffn_width,
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
