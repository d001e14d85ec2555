"""aime25: three records made by hand after the published fields."""

from pathlib import Path

from tests.tasks.hand_made import rewards

RECORDS = [
    {"id": "0", "problem": "Sum?", "answer": "70"},
    {"id": "1", "problem": "Area?", "answer": "588"},
    {"id": "2", "problem": "Ways?", "answer": "16"},
]


def test_right_answers_earn_one_and_wrong_ones_nothing(tmp_path: Path) -> None:
    right = [r"\boxed{70}", r"\boxed{588}", r"\boxed{016}"]
    wrong = [r"\boxed{7}", r"\boxed{-588}", ""]
    assert rewards("aime25", tmp_path, RECORDS, right) == [1.0, 1.0, 1.0]
    assert rewards("aime25", tmp_path, RECORDS, wrong) == [0.0, 0.0, 0.0]
