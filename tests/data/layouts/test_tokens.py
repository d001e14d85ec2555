"""Token ids of a prompt and of a response."""

import pytest

from unmask.data.examples import example_of


def test_ids_are_kept_as_they_are() -> None:
    record = {"prompt_ids": [], "response_ids": [3, 1], "step_map": [1, 2]}
    found = example_of(record, "tokens")
    assert (found.ids, found.step_map) == (((), (3, 1)), (1, 2))


def test_a_response_has_ids() -> None:
    with pytest.raises(ValueError, match="'response_ids' is empty"):
        example_of({"prompt_ids": [1], "response_ids": []}, "tokens")
    with pytest.raises(ValueError, match="'prompt_ids' must be a list of whole numbers"):
        example_of({"prompt_ids": ["1"], "response_ids": [1]}, "tokens")
