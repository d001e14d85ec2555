"""LLaDA-MoE configs, and the keys that are ignored."""

from typing import Any

from unmask.models.families.llada_moe import read_spec
from unmask.models.spec import MoESpec


def test_its_conventions(config: dict[str, Any]) -> None:
    spec = read_spec(config)
    assert (spec.attention, spec.is_shifted, spec.block_size) == ("full", False, 32)
    assert spec.has_qk_norm and not spec.has_qkv_bias and spec.mask_id is None
    assert (spec.ffn_width, spec.head_width, spec.rotary_width) == (96, 16, None)
    assert spec.moe == MoESpec(layers=(0, 1, 2), num_experts=8, num_active=3, width=32)


def test_keys_that_the_published_code_ignores_are_ignored(config: dict[str, Any]) -> None:
    ignored = {
        "norm_topk_prob": True,
        "moe_router_score_function": "sigmoid",
        "router_num_group": 4,
        "router_topk_group": 2,
        "routed_scaling_factor": 2.5,
    }
    assert read_spec(config | ignored) == read_spec(config)


def test_optional_parts_are_read(config: dict[str, Any]) -> None:
    changes = {
        "moe_layer_freq": [0, 1, 1],
        "moe_router_enable_expert_bias": True,
        "shared_expert_intermediate_size": 40,
        "partial_rotary_factor": 0.5,
    }
    spec = read_spec(config | changes)
    assert spec.rotary_width == 8 and spec.moe is not None
    assert (spec.moe.layers, spec.moe.has_bias, spec.moe.shared_width) == ((1, 2), True, 40)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"attention_bias": True}, "attention_bias = True"),
    ({"clip_qkv": 8.0}, "clip_qkv = 8.0"),
    ({"moe_layer_freq": [1, 1]}, "moe_layer_freq = .*not one number per layer of 3"),
    ({"moe_layer_freq": 1}, "moe_layer_freq = 1"),
    ({"rope_scaling": {"type": "linear"}}, "rope type 'linear'"),
]


STORED_NAMES = {
    "backbone.layers.3.ffn.router.weight": "model.layers.3.mlp.gate.weight",
    "backbone.layers.3.ffn.router.expert_bias": "model.layers.3.mlp.expert_bias",
    "backbone.layers.3.ffn.shared.up.weight": "model.layers.3.shared_expert.up_proj.weight",
}
