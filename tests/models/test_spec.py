"""Values that a spec does not guess."""

import pytest

from tests.models.toy import toy_spec


def test_an_unknown_mask_id_is_the_error() -> None:
    assert toy_spec(mask_id=0).require_mask_id() == 0
    with pytest.raises(ValueError, match="pass mask_id="):
        toy_spec(mask_id=None).require_mask_id()


def test_blocks_of_training_are_the_stated_ones_or_the_models_own_or_none_at_all() -> None:
    assert toy_spec(block_size=4).require_block() == 4
    assert toy_spec(block_size=4).require_block(8) == 8
    assert toy_spec(attention="full", block_size=32).require_block(8) is None
    with pytest.raises(ValueError, match=r"block_size is unknown.*set model\.block_size"):
        toy_spec(block_size=None).require_block()
