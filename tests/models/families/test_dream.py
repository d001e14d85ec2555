"""How a Dream config reads."""

import json
from typing import Any

import pytest

from tests.models.toy import GOLDEN
from unmask.models.families.dream import DREAM, read_spec


@pytest.fixture
def config() -> dict[str, Any]:
    return json.loads((GOLDEN / "dream" / "config.json").read_text())


def test_its_conventions(config: dict[str, Any]) -> None:
    spec = read_spec(config)
    assert (spec.attention, spec.is_shifted, spec.block_size) == ("full", True, None)
    assert spec.has_qkv_bias and not spec.has_qk_norm and not spec.is_tied
    assert (spec.num_heads, spec.num_kv_heads, spec.head_width) == (4, 2, 16)
    assert (spec.mask_id, spec.eos_ids, spec.num_drawable) == (310, (300,), 320)
    assert DREAM.default_mask_id == 151666


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_mrope": True}, "use_mrope = True"),
        ({"use_sliding_window": True}, "use_sliding_window = True"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope type 'yarn'"),
    ],
)
def test_what_the_backbone_does_not_do_is_refused(
    config: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_spec(config | change)


def test_weight_names() -> None:
    named = {
        "backbone.layers.3.attention.k.bias": "model.layers.3.self_attn.k_proj.bias",
        "backbone.layers.3.ffn.down.weight": "model.layers.3.mlp.down_proj.weight",
    }
    assert {ours: DREAM.weight_name(ours) for ours in named} == named
