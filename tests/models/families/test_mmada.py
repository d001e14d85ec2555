"""How an MMaDA config reads: a LLaDA's, with image codes behind the text."""

import json
from typing import Any

import pytest

from tests.models.toy import GOLDEN
from unmask.models.families.mmada import read_spec
from unmask.models.heads import drawable_ids


@pytest.fixture
def config() -> dict[str, Any]:
    return json.loads((GOLDEN / "mmada" / "config.json").read_text())


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alibi": True}, "alibi = True"),
        ({"rope": False}, "rope = False"),
    ],
)
def test_what_the_backbone_does_not_do_is_refused(
    config: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_spec(config | change)
