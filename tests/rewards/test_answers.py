"""The part of a response that is its answer."""

import pytest

from unmask.rewards.answers import (
    answer_from_response,
    joined_boxes,
    last_boxed,
    last_value,
    stated_answer,
)


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
        (r"\boxed 5", "5"),
        (r"\boxed73.", "73"),
        (r"\boxed{3} \boxed -5/2$", "-5/2"),
        (r"\boxed\frac{1}{2}$", r"\frac{1}{2}"),
        (r"\boxed B", "B"),
        (r"\boxed x.", "x"),
        (r"\boxed 5^2$", "5^2"),
        (r"\boxed 5x", "5x"),
        (r"\boxed 5e3,", "5e3"),
        (r"\boxed\sqrt{2}$", r"\sqrt{2}"),
        (r"\boxed\frac 12x", r"\frac 12x"),
        (r"\boxed 1{,}234.", "1{,}234"),
        (r"\framebox{5}", "5"),
        (r"\boxed Box", None),
        (r"\boxed \boxed", None),
        (r"\fbox{5}", "5"),
        (r"\fbox{5}, no: \boxed{6}", "6"),
        (r"\boxed{\fbox{5}}", "5"),
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


@pytest.mark.parametrize(
    ("text", "count", "joined"),
    [
        (r"\boxed{3} and \boxed{5}", 2, "3, 5"),
        (r"\boxed{9}. Then $x=\boxed{3}$ or $x=\boxed{5}$.", 2, "3, 5"),
        (r"\boxed{9}. Then $x=\boxed{3}$ or $x=\boxed{5}$.", 3, None),
        (r"\boxed{3}, no, wait: \boxed{5}", 2, None),
        (r"\boxed{5}", 2, None),
        (r"\boxed{3} as well as \boxed{5}", 2, "3, 5"),
        ("- \\boxed{3}\n- \\boxed{5}", 2, "3, 5"),
        (r"x&=\boxed{3}\\x&=\boxed{5}", 2, "3, 5"),
        (r"**\boxed{3}** and **\boxed{5}**", 2, "3, 5"),
        (r"\boxed{3} - \boxed{5}", 2, None),
        (r"\boxed{3} and -\boxed{5}", 2, None),
        (r"\boxed{3} * \boxed{5}", 2, None),
        ("none", 2, None),
        ("\\boxed{3}" + " " * 100 + "\\boxed{5}", 2, None),
    ],
)
def test_boxes_of_one_list(text: str, count: int, joined: str | None):
    assert joined_boxes(text, count) == joined


@pytest.mark.parametrize(
    ("text", "stated", "last"),
    [
        ("The answer is 18. She pays 19.", "18", "19"),
        ("The answer is 17. The answer is **18**.", "18", "18"),
        ("Answer: $18$ and $19$.", "18, 19", "19"),
        ("The answer is $18 and then $19.", "$18", "$19"),
        ("The answer is 9 + 9 = 18 apples", "18", "18"),
        ("The answer is _18_ or <u>19</u>.", "18 or 19", "18 or 19"),
        ("The answer is 5 sqrt(2) m long.", "5 sqrt(2)", "5 sqrt(2)"),
        ("The answer is 5 to 6 here.", "5 to 6", "5 to 6"),
        ("The answer is not 5.", None, "5"),
        ("It is 4.", None, "4"),
        ("x^2 + 1", None, "x^2 + 1"),
        ("no number", None, None),
        ("", None, None),
    ],
)
def test_answers_outside_a_box(text: str, stated: str | None, last: str | None):
    assert (stated_answer(text), last_value(text)) == (stated, last)


def test_a_stated_answer_of_words():
    assert stated_answer("The answer is Monday. The rest is 5.", is_words=True) == "Monday"
