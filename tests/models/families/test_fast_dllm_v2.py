"""How a Fast-dLLM v2 config reads."""

import json
from typing import Any

import pytest

from tests.models.toy import GOLDEN
from unmask.models.families.fast_dllm_v2 import FAST_DLLM_V2, read_spec


@pytest.fixture
def config() -> dict[str, Any]:
    return json.loads((GOLDEN / "fast_dllm_v2" / "config.json").read_text())


def test_its_conventions(config: dict[str, Any]) -> None:
    spec = read_spec(config)
    assert (spec.attention, spec.is_shifted) == ("block_causal", True)
    assert (spec.block_size, spec.sub_block_size, spec.mask_id) == (8, 8, None)
    assert spec.has_qkv_bias and not spec.has_qk_norm
    assert FAST_DLLM_V2.default_mask_id == 151665


def test_what_a_config_may_leave_out(config: dict[str, Any]) -> None:
    for key in ("bd_size", "layer_types", "tie_word_embeddings"):
        del config[key]
    spec = read_spec(config)
    assert (spec.block_size, spec.is_tied) == (32, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
            "layer_types = .*sliding_attention",
        ),
        ({"use_sliding_window": True}, "use_sliding_window = True"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
    ],
)
def test_what_the_backbone_does_not_do_is_refused(
    config: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_spec(config | change)
