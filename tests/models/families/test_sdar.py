"""SDAR configs in every published spelling."""

from typing import Any

import pytest

from tests.models.toy import toy_spec
from unmask.models.families.sdar import new_config, read_spec


def test_older_configs_have_the_released_defaults(config: dict[str, Any]) -> None:
    for key in ("block_size", "mask_token_id", "head_dim", "attention_bias", "eos_token_id"):
        del config[key]
    spec = read_spec(config)
    assert (spec.block_size, spec.mask_id, spec.head_width, spec.eos_ids) == (4, None, 16, ())
    assert not spec.has_qkv_bias


@pytest.mark.parametrize(
    ("change", "theta"),
    [
        ({"rope_theta": 5000}, 5000.0),
        ({"rope_theta": None, "rope_parameters": {"rope_theta": 7.0}}, 7.0),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}, 7.0),
        ({"rope_theta": 9.0, "rope_parameters": {"rope_type": "default"}}, 9.0),
    ],
)
def test_the_rotary_base_is_read_from_two_places(
    config: dict[str, Any], change: dict[str, Any], theta: float
) -> None:
    assert read_spec(config | change).rope_theta == theta


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope type 'linear'"),
    ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 7.0}}, "rope type 'yarn'"),
    ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    ({"use_sliding_window": True}, "use_sliding_window = True"),
]


@pytest.mark.parametrize("eos_ids", [(), (3,), (3, 4)])
def test_a_new_config_reads_back(eos_ids: tuple[int, ...]) -> None:
    spec = toy_spec(eos_ids=eos_ids, is_tied=True, has_qkv_bias=True)
    assert read_spec(new_config(spec)) == spec


STORED_NAMES = {
    "backbone.embedding.weight": "model.embed_tokens.weight",
    "backbone.layers.12.attention.q.bias": "model.layers.12.self_attn.q_proj.bias",
    "backbone.layers.0.ffn_norm.weight": "model.layers.0.post_attention_layernorm.weight",
    "head.projection.weight": "lm_head.weight",
}
