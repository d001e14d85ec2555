"""Chat messages: roles, parts, and what a turn may not hold."""

import pytest

from unmask.data.examples import example_of
from unmask.types import Message


def test_a_conversation_keeps_its_turns() -> None:
    turns = [
        {"role": "system", "content": "short"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "1+"}, {"type": "text", "text": "1"}],
        },
        {"role": "assistant", "content": "2", "name": "sums", "tool_calls": None, "weight": 1},
    ]
    found = example_of({"messages": turns, "id": 7}, "messages")
    assert found.messages == (
        Message("system", "short"),
        Message("user", "1+1"),
        Message("assistant", "2"),
    )
    assert (found.kind, found.first) == ("chat", 0)


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"role": "tool", "content": "1"}, r"messages\[1\]: unknown role 'tool'; known are system"),
        ({"role": ["user"], "content": "1"}, r"messages\[1\]: unknown role \['user'\]"),
        ({"role": "assistant", "content": " "}, r"messages\[1\]: 'content' is empty"),
        ({"role": "assistant"}, r"messages\[1\] must have 'role' and 'content'"),
        ({"role": "assistant", "content": 3}, r"messages\[1\]: 'content' must be a text, found 3"),
        ("hello", r"messages\[1\] must have"),
        ({"role": "user", "content": [{"type": "image"}]}, "and no image is left"),
        (
            {"role": "user", "content": [{"type": "audio"}]},
            "must be a part of type text, image_url",
        ),
        ({"role": "assistant", "content": "1", "tool_calls": [1]}, "'tool_calls' is not read"),
        ({"role": "assistant", "content": "1", "weight": 0}, "'weight' is not read"),
    ],
)
def test_what_a_turn_may_not_hold_is_named(turn: object, message: str) -> None:
    record = {"messages": [{"role": "user", "content": "1"}, turn]}
    with pytest.raises(ValueError, match=message):
        example_of(record, "messages")


@pytest.mark.parametrize("value", [[], "hello", 3])
def test_messages_are_a_list_of_turns(value: object) -> None:
    with pytest.raises(ValueError, match="'messages' must be a list of turns"):
        example_of({"messages": value}, "messages")
