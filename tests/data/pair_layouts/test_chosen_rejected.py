"""TRL's two conversations without a prompt of their own."""

from pathlib import Path
from typing import Any

import pytest

from tests.data.toy_pairs import ASKED, EXPECTED, answer, read_pairs


def test_the_turns_before_the_last_are_the_prompt(tmp_path: Path) -> None:
    record = {"chosen": [*ASKED, answer("2")], "rejected": [*ASKED, answer("3")]}
    assert read_pairs(tmp_path, record) == [EXPECTED]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"chosen": "Human: 1", "rejected": "Human: 2"}, "'chosen' is a text without a 'prompt'"),
        (
            {
                "chosen": [*ASKED, answer("2")],
                "rejected": [{"role": "user", "content": "2+2"}, answer("3")],
            },
            "line 1: the two conversations differ before their last turn",
        ),
        (
            {"chosen": ASKED, "rejected": [*ASKED, answer("3")]},
            "line 1: there is no turn of the assistant to train",
        ),
    ],
)
def test_other_conversations_are_refused(record: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path, record)
