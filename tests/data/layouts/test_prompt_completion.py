"""TRL's layout, as texts and as conversations."""

import pytest

from unmask.data.examples import example_of


def test_texts_are_a_pair() -> None:
    found = example_of({"prompt": "1+1=", "completion": "2"}, "prompt_completion")
    assert (found.kind, [m.content for m in found.messages]) == ("pair", ["1+1=", "2"])


def test_only_the_completion_of_a_conversation_is_trained() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    record = {"prompt": [*turns, turns[0]], "completion": [turns[1]]}
    found = example_of(record, "prompt_completion")
    assert (found.kind, found.first, len(found.messages)) == ("chat", 3, 4)


def test_text_and_conversation_do_not_mix() -> None:
    turns = [{"role": "user", "content": "a"}]
    with pytest.raises(ValueError, match="'completion' must be a list of turns"):
        example_of({"prompt": turns, "completion": "b"}, "prompt_completion")
    with pytest.raises(ValueError, match="'completion' must be a text"):
        example_of({"prompt": "a", "completion": turns}, "prompt_completion")
