"""LLaDA2 configs: rotary half, groups of experts, fused projections."""

from typing import Any

import pytest

from unmask.models.families.llada2 import read_spec
from unmask.models.spec import MoESpec


def test_its_conventions(config: dict[str, Any]) -> None:
    spec = read_spec(config)
    assert (spec.attention, spec.is_shifted, spec.block_size) == ("block_causal", False, 32)
    assert spec.has_qk_norm and not spec.has_qkv_bias and spec.mask_id is None
    assert (spec.head_width, spec.rotary_width, spec.ffn_width) == (32, 16, 112)
    assert spec.moe == MoESpec(
        layers=(1, 2),
        num_experts=16,
        num_active=4,
        width=24,
        shared_width=24,
        router="grouped_sigmoid",
        renormalises=True,
        scale=2.5,
        num_groups=4,
        num_active_groups=2,
        has_bias=True,
    )


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"norm_topk_prob": False}, "renormalises", True),
        ({"num_experts_per_tok": 1}, "renormalises", False),
        ({"num_shared_experts": None}, "shared_width", 0),
        ({"num_shared_experts": 2}, "shared_width", 48),
        ({"first_k_dense_replace": 0}, "layers", (0, 1, 2)),
        ({"first_k_dense_replace": 3}, "layers", ()),
    ],
)
def test_experts(config: dict[str, Any], change: dict[str, Any], field: str, value: object) -> None:
    assert getattr(read_spec(config | change).moe, field) == value


def test_an_unused_window_is_accepted(config: dict[str, Any]) -> None:
    assert config["sliding_window"] == 4096 and not config["use_sliding_window"]


def test_an_absent_bias_has_the_default_of_the_published_class(config: dict[str, Any]) -> None:
    del config["use_bias"]
    with pytest.raises(ValueError, match="use_bias = True"):
        read_spec(config)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"use_bias": True}, "use_bias = True"),
    ({"use_qkv_bias": True}, "use_qkv_bias = True"),
    ({"norm_head": True}, "norm_head = True"),
    ({"norm_softmax": True}, "norm_softmax = True"),
    ({"use_qk_norm": False}, "use_qk_norm = False"),
    ({"use_rmsnorm": False}, "use_rmsnorm = False"),
    ({"using_split_qkv_in_self_attention": True}, "using_split_qkv_in_self_attention = True"),
    ({"score_function": "softmax"}, "score_function = 'softmax'"),
    ({"router_dtype": "bf16"}, "router_dtype = 'bf16'"),
    ({"moe_router_enable_expert_bias": False}, "moe_router_enable_expert_bias = False"),
    ({"use_sliding_window": True}, "use_sliding_window = True"),
]


STORED_NAMES = {
    "backbone.layers.3.attention.q.weight": "model.layers.3.attention.query_key_value.weight",
    "backbone.layers.3.attention.v.weight": "model.layers.3.attention.query_key_value.weight",
    "backbone.layers.3.attention.k_norm.weight": "model.layers.3.attention.key_layernorm.weight",
    "backbone.layers.3.ffn.router.expert_bias": "model.layers.3.mlp.gate.expert_bias",
    "backbone.layers.3.ffn.shared.up.weight": "model.layers.3.mlp.shared_experts.up_proj.weight",
    "backbone.embedding.weight": "model.word_embeddings.weight",
}
