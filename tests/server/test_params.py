"""Options of the server."""

import pytest

from unmask.server.params import ServerParams


def test_options_are_within_their_bounds() -> None:
    assert ServerParams("m").max_body_bytes == 2**24
    with pytest.raises(ValueError, match="request_seconds = 0"):
        ServerParams("m", request_seconds=0)
    with pytest.raises(ValueError, match="max_waiting"):
        ServerParams("m", max_waiting=-1)


def test_weights_are_updated_with_a_key_only() -> None:
    assert ServerParams("m", api_key="k", updates_weights=True).updates_weights
    with pytest.raises(ValueError, match="API key"):
        ServerParams("m", updates_weights=True)
