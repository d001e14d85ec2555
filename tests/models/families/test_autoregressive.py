"""Autoregressive configs: their kinds by name, and refused options."""

from pathlib import Path
from typing import Any

import pytest

from unmask.models.families.autoregressive import SOURCES, read_source_spec, source_of

CONFIG: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
}


def test_kinds_by_class_and_by_type() -> None:
    for stem, source in SOURCES.items():
        for task in ("CausalLM", "SequenceClassification"):
            assert source_of({"architectures": [f"{stem}For{task}"]}, task) is source
            assert source_of({"model_type": stem.lower()}, task) is source


def test_a_class_of_another_task_is_refused_with_those_supported() -> None:
    with pytest.raises(ValueError, match=r"'Qwen2ForCausalLM'.*supported: Qwen2ForSequenceClassif"):
        source_of({"architectures": ["Qwen2ForCausalLM"]}, "SequenceClassification")


def test_absent_keys_have_the_values_of_the_first_llamas_and_blocks_are_single_tokens() -> None:
    spec = read_source_spec(Path("x"), CONFIG, SOURCES["Llama"], "dream")
    assert (spec.rope_theta, spec.num_kv_heads, spec.block_size) == (10000.0, 4, 1)
    assert (spec.attention, spec.has_qkv_bias, spec.has_qk_norm) == ("block_causal", False, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_bias": True}, "attention_bias = True"),
        ({"use_sliding_window": True}, "use_sliding_window = True"),
        ({"layer_types": ["sliding_attention"]}, "layer_types = 'sliding_attention'"),
        ({"hidden_size": None}, "."),
    ],
)
def test_options_that_the_backbone_lacks_are_refused(change: dict[str, Any], message: str) -> None:
    config = {key: value for key, value in (CONFIG | change).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        read_source_spec(Path("x"), config, SOURCES["Qwen2"], "dream")
