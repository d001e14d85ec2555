"""What a spec refuses to guess."""

import pytest

from tests.models.toy import toy_spec


def test_an_unknown_mask_id_is_the_error() -> None:
    assert toy_spec(mask_id=0).require_mask_id() == 0
    with pytest.raises(ValueError, match="pass mask_id="):
        toy_spec(mask_id=None).require_mask_id()
