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
        (r"\boxed{}", ""),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed{x = \boxed{7", None),
        (r"}} \boxed{5} }", "5"),
        (r"{{ \boxed{5}", "5"),
        (r"\\boxed{5}", "5"),
        (r"\\\boxed{5}", "5"),
        (r"\{\boxed{5\}}", r"5\}"),
        (r"\boxed 5", None),
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
        ("<answer>5</answer> and </answer>", "5"),
        ("<answer>5</answer> and <answer>6", "5"),
        ("</answer>5<answer>", "</answer>5<answer>"),
        ("", ""),
    ],
)
def test_the_answer_of_a_response(response: str, answer: str):
    assert answer_from_response(response) == answer


@pytest.mark.parametrize(
    "piece", ["{", "}", "\\", "\\boxed{", "\\boxed ", "<answer>", "</answer>", "<answer></answer>"]
)
def test_a_megabyte_is_read_in_one_pass(piece: str):
    text = piece * (10**6 // len(piece))
    # The claim is that this ends; read once per piece, each of these takes minutes.
    assert last_boxed(text) is None
    assert len(answer_from_response(text)) <= len(text)
