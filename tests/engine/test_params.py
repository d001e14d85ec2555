"""An engine has room for at least one response."""

import pytest

from unmask.engine.params import EngineParams


def test_an_engine_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="max_slots = 0"):
        EngineParams(max_slots=0)
    assert EngineParams(max_slots=1).fuses_commit
