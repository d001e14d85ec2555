"""ShareGPT's names of roles."""

import pytest

from unmask.data.examples import example_of


def test_human_and_gpt_are_user_and_assistant() -> None:
    turns = [
        {"from": "system", "value": "a"},
        {"from": "human", "value": "b"},
        {"from": "gpt", "value": "c"},
    ]
    found = example_of({"conversations": turns}, "sharegpt")
    assert [m.role for m in found.messages] == ["system", "user", "assistant"]
    assert [m.content for m in found.messages] == ["a", "b", "c"]


def test_calls_of_functions_are_refused() -> None:
    record = {"conversations": [{"from": "function_call", "value": "b"}]}
    with pytest.raises(ValueError, match=r"conversations\[0\]: unknown role 'function_call'"):
        example_of(record, "sharegpt")
