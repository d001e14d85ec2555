"""TRL's and UltraFeedback's prompt with two answers."""

from pathlib import Path
from typing import Any

import pytest

from tests.data.toy_pairs import ASKED, EXPECTED, GOOD, answer, read_pairs


@pytest.mark.parametrize(
    "record",
    [
        GOOD,
        {**GOOD, "prompt": ASKED},
        {"prompt": ASKED, "chosen": [answer("2")], "rejected": [answer("3")]},
        # ultrafeedback_binarized
        {
            "prompt": "1+1",
            "prompt_id": "a",
            "chosen": [*ASKED, answer("2")],
            "rejected": [*ASKED, answer("3")],
            "score_chosen": 9.0,
        },
    ],
)
def test_texts_turns_and_conversations_are_one_pair(record: dict[str, Any], tmp_path: Path) -> None:
    assert read_pairs(tmp_path, record) == [EXPECTED]


def test_a_longer_conversation_is_compared_by_its_last_turn(tmp_path: Path) -> None:
    before = [*ASKED, answer("2"), {"role": "user", "content": "+1"}]
    record = {"prompt": before, "chosen": [answer("3")], "rejected": [answer("4")]}
    ((prompt, chosen, _),) = read_pairs(tmp_path, record)
    assert prompt.endswith("[assistant]2<|end|>\n[user]+1<|end|>\n[assistant]")
    assert chosen == "3<|end|>"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({**GOOD, "rejected": " "}, "line 2: 'rejected' is empty"),
        ({**GOOD, "chosen": 7}, "line 2: 'chosen' must be a list of turns, found 7"),
        (
            {**GOOD, "chosen": [{"role": "user", "content": "other"}, answer("2")]},
            "line 2: 'chosen' is a conversation that does not begin with 'prompt'",
        ),
    ],
)
def test_a_wrong_answer_is_named(record: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path, GOOD, record)
