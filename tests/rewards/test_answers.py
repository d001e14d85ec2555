"""Which part of a response is its answer."""

import pytest

from unmask.rewards.answers import answer_from_response, last_boxed


@pytest.mark.parametrize(
    ("text", "boxed"),
    [
        (r"so \boxed{5}", "5"),
        (r"\boxed{5}, no: \boxed{6}", "6"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{[0, \infty\}}", r"[0, \infty\}"),
        (r"\boxed{5} and \boxed{6", "5"),
        (r"\boxed{", None),
        ("\\boxed{\\", None),
        ("5", None),
    ],
)
def test_the_last_closed_box_counts(text: str, boxed: str | None):
    assert last_boxed(text) == boxed


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (" 5\n", "5"),
        ("<answer>4</answer> no <answer> 5 </answer>.", "5"),
        (r"<answer>\boxed{5}</answer>", "5"),
        (r"\boxed{4} <answer>5</answer>", "5"),
        ("<answer>1 2\n3 4</answer>", "1 2\n3 4"),
        ("<answer>5", "<answer>5"),
        ("", ""),
    ],
)
def test_the_answer_of_a_response(response: str, answer: str):
    assert answer_from_response(response) == answer
