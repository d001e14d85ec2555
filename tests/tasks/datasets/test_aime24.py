"""aime24: three records made by hand after the published fields."""

from pathlib import Path

from tests.tasks.hand_made import rewards

RECORDS = [
    {"id": 60, "problem": "Walk?", "solution": "...", "answer": "204", "year": "2024"},
    {"id": 61, "problem": "Small?", "solution": "...", "answer": "025", "url": "u"},
    {"id": 62, "problem": "Count?", "solution": "...", "answer": "809"},
]


def test_right_answers_earn_one_and_wrong_ones_nothing(tmp_path: Path) -> None:
    right = [r"\boxed{204}", r"\boxed{25}", r"It is $\boxed{809}$."]
    wrong = [r"\boxed{205}", r"\boxed{250}", "809"]
    assert rewards("aime24", tmp_path, RECORDS, right) == [1.0, 1.0, 1.0]
    assert rewards("aime24", tmp_path, RECORDS, wrong) == [0.0, 0.0, 0.0]
