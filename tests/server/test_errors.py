"""Errors in OpenAI's shape."""

import pytest

from unmask.sampling_params import SamplingParams
from unmask.server.errors import ApiError, refusal


def test_the_body_has_openai_s_shape() -> None:
    error = ApiError(400, "no", "seed", "invalid_value")
    fields = {"message": "no", "type": "invalid_request_error", "param": "seed"}
    assert error.body() == {"error": {**fields, "code": "invalid_value"}}
    assert ApiError(503, "later").body()["error"]["type"] == "server_error"


def test_the_field_at_fault_is_read_from_the_message() -> None:
    with pytest.raises(ValueError) as caught:
        SamplingParams(top_p=2.0)
    assert refusal(caught.value, "prompt").param == "top_p"
    assert refusal(ValueError("token id 9 is outside"), "prompt").param == "prompt"
    assert refusal(ValueError("token id 9 of pinned is outside"), "prompt").param == "pinned"
    assert refusal(ValueError("8 tokens and max_tokens = 9 do not fit")).param == "max_tokens"
