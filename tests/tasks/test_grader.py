"""Graders of tasks: the user's own function, and `math-verify` in worker processes."""

from pathlib import Path

import pytest

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
    grader = own_grader("own_reward:score")
    assert grader is not None
    assert grader.grade([(HALF, "ab"), (HALF, "")]) == [Score(3.0), Score(1.0)]
    grader.close()
    assert own_grader(None) is None


def test_math_is_compared_with_the_reference_and_grades_again_after_close() -> None:
    grader = math_grader(VerifierConfig(), "boxed")
    for _ in range(2):
        scores = grader.grade([(HALF, r"\boxed{0.5}"), (HALF, r"\boxed{2}")])
        assert [score.reward for score in scores] == [1.0, 0.0]
        assert scores[0].parts["verifier_timeout"] == 0.0
        grader.close()
