"""SDAR-MoE configs: layers with experts, and the weights of experts."""

from typing import Any

import pytest

from unmask.models.families.sdar_moe import read_spec
from unmask.models.spec import MoESpec


def test_its_conventions(config: dict[str, Any]) -> None:
    spec = read_spec(config)
    assert (spec.attention, spec.is_shifted, spec.block_size) == ("block_causal", False, 4)
    assert spec.has_qk_norm and not spec.has_qkv_bias and spec.mask_id is None
    assert spec.moe == MoESpec(
        layers=(0, 1), num_experts=8, num_active=3, width=32, renormalises=True
    )


@pytest.mark.parametrize(
    ("change", "layers"),
    [
        ({"num_hidden_layers": 6}, (0, 1, 2, 3, 4, 5)),
        ({"num_hidden_layers": 6, "decoder_sparse_step": 2}, (1, 3, 5)),
        ({"num_hidden_layers": 6, "decoder_sparse_step": 2, "mlp_only_layers": [3]}, (1, 5)),
        ({"num_hidden_layers": 2, "mlp_only_layers": [0, 1]}, ()),
    ],
)
def test_which_layers_have_experts(
    config: dict[str, Any], change: dict[str, Any], layers: tuple[int, ...]
) -> None:
    moe = read_spec(config | change).moe
    assert moe is not None and moe.layers == layers


def test_renormalisation_is_the_configs(config: dict[str, Any]) -> None:
    moe = read_spec(config | {"norm_topk_prob": False}).moe
    assert moe is not None and not moe.renormalises


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"attention_bias": True}, "attention_bias = True"),
    ({"use_sliding_window": True}, "use_sliding_window = True"),
    ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
]


STORED_NAMES = {
    "backbone.layers.3.ffn.router.weight": "model.layers.3.mlp.gate.weight",
    "backbone.layers.3.ffn.experts.up.weight": "model.layers.3.mlp.experts.{e}.up_proj.weight",
    "backbone.layers.3.ffn.up.weight": "model.layers.3.mlp.up_proj.weight",
}
