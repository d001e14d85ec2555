"""math500: three records made by hand after the published fields."""

from pathlib import Path

from tests.tasks.hand_made import rewards

RECORDS = [
    {
        "problem": "Half?",
        "solution": "It is $\\boxed{\\frac12}$.",
        "answer": "\\frac{1}{2}",
        "level": 1,
    },
    {
        "problem": "Which $x$?",
        "solution": "...",
        "answer": "(3, \\frac{\\pi}{2})",
        "subject": "Algebra",
    },
    {
        "problem": "Who?",
        "solution": "...",
        "answer": "\\text{Evelyn}",
        "unique_id": "test/a/1.json",
    },
]


def test_right_answers_earn_one_and_wrong_ones_nothing(tmp_path: Path) -> None:
    right = [r"\boxed{0.5}", r"\boxed{(3, \frac{1}{2}\pi)}", r"\boxed{Evelyn}"]
    wrong = [r"\boxed{0.2}", r"\boxed{(\frac{\pi}{2}, 3)}", r"\boxed{Angela}"]
    assert rewards("math500", tmp_path, RECORDS, right) == [1.0, 1.0, 1.0]
    assert rewards("math500", tmp_path, RECORDS, wrong) == [0.0, 0.0, 0.0]
