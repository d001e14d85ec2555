"""Fast-dLLM v2 configs."""

from typing import Any

from unmask.models.families.fast_dllm_v2 import read_spec


def test_its_conventions(config: dict[str, Any]) -> None:
    spec = read_spec(config)
    assert (spec.attention, spec.is_shifted) == ("block_causal", True)
    assert (spec.block_size, spec.sub_block_size, spec.mask_id) == (8, 8, None)
    assert spec.has_qkv_bias and not spec.has_qk_norm


def test_keys_that_a_config_may_leave_out(config: dict[str, Any]) -> None:
    for key in ("bd_size", "layer_types", "tie_word_embeddings"):
        del config[key]
    spec = read_spec(config)
    assert (spec.block_size, spec.is_tied) == (32, False)


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
        "layer_types = .*sliding_attention",
    ),
    ({"use_sliding_window": True}, "use_sliding_window = True"),
    ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
]

STORED_NAMES = {"backbone.layers.3.attention.k.bias": "model.layers.3.self_attn.k_proj.bias"}
