"""Sampled answers with rewards."""

from pathlib import Path
from typing import Any

import pytest

from tests.data.toy_pairs import EXPECTED, read_pairs


def test_the_first_best_and_the_first_worst_are_the_pair(tmp_path: Path) -> None:
    record = {"prompt": "1+1", "responses": ["4", "2", "3", "2"], "rewards": [0.5, 1, 0, 1]}
    assert read_pairs(tmp_path, record) == [EXPECTED]


@pytest.mark.parametrize(
    ("responses", "rewards", "message"),
    [
        (["2", "3"], [1], "'rewards' must be a list of two"),
        ("23", [1, 0], "'responses' must be a list of two"),
        (["2", "3"], [1, 0, 1], "there are 2 'responses' and 3 'rewards'"),
        (["2", "3"], [1, 1], "line 1: every reward is 1: no answer is preferred"),
        (["2", "3"], [1, None], "'rewards' must be finite numbers"),
        (["2", "2"], [1, 0], "line 1: the two answers are equal"),
    ],
)
def test_a_group_without_a_preference_is_refused(
    responses: Any, rewards: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path, {"prompt": "1", "responses": responses, "rewards": rewards})
