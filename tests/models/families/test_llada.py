"""LLaDA configs: OLMo's names, and those easily confused."""

from typing import Any

import pytest

from unmask.models.families.llada import read_spec


def test_its_conventions(config: dict[str, Any]) -> None:
    spec = read_spec(config)
    assert (spec.attention, spec.is_shifted, spec.block_size) == ("full", False, 32)
    assert not spec.has_qkv_bias and not spec.has_qk_norm and not spec.is_tied
    assert (spec.width, spec.ffn_width, spec.num_layers, spec.head_width) == (64, 96, 3, 16)
    assert (spec.rope_theta, spec.norm_eps, spec.max_length) == (5e5, 1e-5, 256)
    assert (spec.mask_id, spec.eos_ids) == (310, (300,))


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"n_kv_heads": None}, "num_kv_heads", 4),
        ({"n_kv_heads": 2}, "num_kv_heads", 2),
        ({"n_kv_heads": None, "multi_query_attention": True}, "num_kv_heads", 1),
        ({"mlp_hidden_size": None}, "ffn_width", 256),
        ({"mlp_hidden_size": None, "mlp_ratio": 3}, "ffn_width", 192),
        ({"embedding_size": None}, "vocab_size", 320),
        ({"embedding_size": 384}, "vocab_size", 384),
        ({"embedding_size": 384}, "num_drawable", 320),
        ({"weight_tying": True}, "is_tied", True),
        ({"include_qkv_bias": True}, "has_qkv_bias", True),
        ({"rope_full_precision": False, "flash_attention": True}, "rope_theta", 5e5),
    ],
)
def test_every_spelling_of_a_number(
    config: dict[str, Any], change: dict[str, Any], field: str, value: object
) -> None:
    assert getattr(read_spec(config | change), field) == value


@pytest.mark.parametrize("key", ["rope", "block_type", "layer_norm_type", "activation_type"])
def test_an_absent_key_has_the_default_of_the_published_class(
    config: dict[str, Any], key: str
) -> None:
    del config[key]
    with pytest.raises(ValueError, match=f"{key} = "):
        read_spec(config)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"activation_type": "swiglu"}, "activation_type = 'swiglu'"),
    ({"alibi": True}, "alibi = True"),
    ({"attention_layer_norm": True}, "attention_layer_norm = True"),
    ({"bias_for_layer_norm": True}, "bias_for_layer_norm = True"),
    ({"block_group_size": 2}, "block_group_size = 2"),
    ({"block_type": "sequential"}, "block_type = 'sequential'"),
    ({"include_bias": True}, "include_bias = True"),
    ({"input_emb_norm": True}, "input_emb_norm = True"),
    ({"layer_norm_type": "default"}, "layer_norm_type = 'default'"),
    ({"layer_norm_with_affine": False}, "layer_norm_with_affine = False"),
    ({"rope": False}, "rope = False"),
    ({"scale_logits": True}, "scale_logits = True"),
    ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope type 'linear'"),
]


STORED_NAMES = {
    "backbone.layers.3.ffn.gate.weight": "model.transformer.blocks.3.ff_proj.weight",
    "backbone.layers.3.ffn.down.weight": "model.transformer.blocks.3.ff_out.weight",
    "head.projection.weight": "model.transformer.ff_out.weight",
}
