"""Dream configs."""

from typing import Any

from unmask.models.families.dream import read_spec


def test_its_conventions(config: dict[str, Any]) -> None:
    spec = read_spec(config)
    assert (spec.attention, spec.is_shifted, spec.block_size) == ("full", True, None)
    assert spec.has_qkv_bias and not spec.has_qk_norm and not spec.is_tied
    assert (spec.num_heads, spec.num_kv_heads, spec.head_width) == (4, 2, 16)
    assert (spec.mask_id, spec.eos_ids, spec.num_drawable) == (310, (300,), 320)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"use_mrope": True}, "use_mrope = True"),
    ({"use_sliding_window": True}, "use_sliding_window = True"),
    ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope type 'yarn'"),
]


STORED_NAMES = {
    "backbone.layers.3.attention.k.bias": "model.layers.3.self_attn.k_proj.bias",
    "backbone.layers.3.ffn.down.weight": "model.layers.3.mlp.down_proj.weight",
}
