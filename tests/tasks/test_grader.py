"""Graders of tasks: the user's own function, and the comparison of mathematics in worker processes."""

import warnings
from pathlib import Path

import pytest

from unmask.configs.reward_function import OwnRewardConfig
from unmask.configs.task import VerifierConfig
from unmask.tasks.grader import math_grader, own_grader
from unmask.types import Prompt, Score

HALF = Prompt("math", 1, (), (), {"answer": "\\frac{1}{2}"})


def test_the_users_own_function_is_called_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_reward.py").write_text(
        "def score(prompt, text): return len(text) + prompt.uid"
    )
    monkeypatch.syspath_prepend(tmp_path)
    grader = own_grader(OwnRewardConfig(reward="own_reward:score"))
    assert grader is not None
    assert grader.grade([(HALF, "ab"), (HALF, "")]) == [Score(3.0), Score(1.0)]
    grader.close()
    assert own_grader(OwnRewardConfig()) is None


def test_math_is_compared_with_the_reference_and_grades_again_after_close() -> None:
    grader = math_grader(VerifierConfig(), "boxed")
    for _ in range(2):
        scores = grader.grade([(HALF, r"\boxed{0.5}"), (HALF, r"\boxed{2}")])
        assert [score.reward for score in scores] == [1.0, 0.0]
        assert scores[0].parts["verifier_timeout"] == 0.0
        grader.close()


def prompts_of(*golds: str) -> list[Prompt]:
    """Return a prompt for each gold."""
    return [Prompt("math", number, (), (), {"answer": gold}) for number, gold in enumerate(golds)]


def test_golds_that_cannot_be_read_are_counted_and_named() -> None:
    golds = ["18", "np.arcsin(10/13)", "\\frac{1}{2}", r"5 \foo", r"5 \foo", "Monday", "B"]
    grader = math_grader(VerifierConfig(), "boxed")
    with pytest.warns(UserWarning, match=r"task\.test: 3 of 7 golds cannot be read") as caught:
        grader.check("task.test", prompts_of(*golds))
    message = str(caught[0].message)
    assert message.endswith(r": 'np.arcsin(10/13)', '5 \\foo'")
    scores = grader.grade([(prompt, r"\boxed{5 \foo}") for prompt in prompts_of(*golds)])
    assert [score.reward for score in scores] == [0, 0, 0, 1, 1, 0, 0]
    grader.close()


def test_golds_that_are_numbers_letters_or_words_raise_no_warning() -> None:
    grader = math_grader(VerifierConfig(), "boxed")
    with warnings.catch_warnings(action="error"):
        grader.check("task.test", prompts_of("18", "-1,234.5", "B"))
        grader.check("task.test", prompts_of("Monday", "1e-05", "x^2", "(1, 2)"))
    grader.close()


def test_many_unread_golds_are_named_in_part() -> None:
    grader = math_grader(VerifierConfig(), "boxed")
    with pytest.warns(UserWarning, match=r"9 of 9 golds .*'0 \?', .*'4 \?', \.\.\.$"):
        grader.check("task.test", prompts_of(*(f"{number} ?" for number in range(9))))
    grader.close()
