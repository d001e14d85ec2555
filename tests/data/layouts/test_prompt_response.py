"""A prompt and a response, with the step map of dLLM-RL or without."""

import pytest

from unmask.data.examples import example_of


def test_a_step_map_is_kept() -> None:
    record = {"prompt": "1", "response": "23", "step_map": [1, 0]}
    assert example_of(record, "prompt_response").step_map == (1, 0)
    del record["step_map"]
    assert example_of(record, "prompt_response").step_map is None


@pytest.mark.parametrize("steps", ["12", [1.5], [-1], [True], 3])
def test_a_step_map_is_a_list_of_counts(steps: object) -> None:
    record = {"prompt": "1", "response": "23", "step_map": steps}
    with pytest.raises(ValueError, match="'step_map' must be a list of whole numbers"):
        example_of(record, "prompt_response")
