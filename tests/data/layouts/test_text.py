"""A text that is trained whole."""

import pytest

from unmask.data.examples import example_of


def test_a_text_has_no_prompt() -> None:
    found = example_of({"text": "once"}, "text")
    assert (found.kind, [m.content for m in found.messages]) == ("text", ["once"])


def test_a_blank_text_is_refused() -> None:
    with pytest.raises(ValueError, match="'text' is empty"):
        example_of({"text": " \n"}, "text")
