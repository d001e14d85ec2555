"""Mathematical equality: what counts as the same answer, and which answer of a response counts."""

import pytest

from unmask.rewards.math import FACTORY, is_equal
from unmask.rewards.workers import Verdict, VerifierPool


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\frac{1}{2}", "0.5"),
        ("1/2", r"\dfrac{1}{2}"),
        ("18", "18.00"),
        ("18", "18."),
        ("1234", "1,234"),
        ("1,234", "1234"),
        ("10000000", "10,000,000"),
        ("1234", r"\$1,234"),
        ("50\\%", "0.5"),
        ("5", r"5 \text{ cm}"),
        ("5", "x=5"),
        ("[0, 1)", r"\left[0, 1\right)"),
        (r"(-\infty, 3]", r"(-\infty,3]"),
        (r"\{1, 2\}", r"\{2, 1\}"),
        (r"\sqrt{8}", r"2\sqrt{2}"),
        (r"\boxed{7}", "7"),
        ("$7$", "7"),
        ("Monday", "Monday"),
    ],
)
def test_equal(gold: str, answer: str):
    assert is_equal(f"It is \\boxed{{{answer}}}", gold) == 1.0


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("18", "19"),
        ("12", "1,2"),
        ("1234", "1,2,34"),
        ("[0, 1)", "[0, 1]"),
        ("(0, 1)", "[0, 1]"),
        (r"\{1, 2\}", r"\{1, 3\}"),
        ("0.5", "50.5"),
        ("Monday", "Tuesday"),
        ("5", ""),
        ("5", r"\frac{"),
    ],
)
def test_not_equal(gold: str, answer: str):
    assert is_equal(f"It is \\boxed{{{answer}}}", gold) == 0.0


@pytest.mark.parametrize(
    ("response", "score"),
    [
        (r"\boxed{17}, no: \boxed{18}", 1.0),
        (r"\boxed{18}, no: \boxed{17}", 0.0),
        ("The answer is 18.", 1.0),
        ("The answer is $18$.", 1.0),
        ("The answer is 19.", 0.0),
        ("", 0.0),
        ("I do not know", 0.0),
    ],
)
def test_the_last_box_counts_else_what_the_package_finds(response: str, score: float):
    assert is_equal(response, "18") == score


def test_in_a_worker_and_a_power_tower_is_only_late():
    items = [r"\boxed{\frac{1}{2}}", r"\boxed{9^{9^{9^{9}}}}", r"\boxed{1}"]
    with VerifierPool(FACTORY, {}, time_limit_s=0.4) as pool:
        verdicts = pool.judge([{"response": response, "gold": "0.5"} for response in items])
    assert verdicts[0] == Verdict(1.0)
    assert verdicts[1].score == 0.0
    assert verdicts[2] == Verdict(0.0)
