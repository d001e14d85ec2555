"""MMaDA configs: a LLaDA's, with image codes after the text."""

from typing import Any

from unmask.models.families.mmada import read_spec
from unmask.models.heads import drawable_ids


def test_only_text_may_be_drawn(config: dict[str, Any]) -> None:
    spec = read_spec(config)
    assert (spec.vocab_size, spec.num_drawable, spec.mask_id) == (320, 256, 250)
    assert drawable_ids(spec).sum() == 255
    config["llm_vocab_size"] = None
    assert read_spec(config).num_drawable == 320
    assert read_spec(config | {"vocab_size": 256}).num_drawable == 256


def test_its_conventions_are_llada_s(config: dict[str, Any]) -> None:
    spec = read_spec(config)
    assert (spec.family, spec.attention, spec.is_shifted, spec.block_size) == (
        "mmada",
        "full",
        False,
        32,
    )


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"alibi": True}, "alibi = True"),
    ({"rope": False}, "rope = False"),
]

STORED_NAMES = {"backbone.layers.3.ffn.gate.weight": "model.transformer.blocks.3.ff_proj.weight"}
