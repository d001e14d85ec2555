"""LiveBench's mathematics: three records made by hand after the published fields, one of each task."""

from pathlib import Path
from typing import Any

import pytest

from tests.tasks.hand_made import contents, rewards
from unmask.tasks.datasets.livebench_math import answer_in_a_box, problem, share_in_order
from unmask.tasks.record import Record

RECORDS: list[dict[str, Any]] = [
    {"turns": ["Derive $x^2$ in a box."], "ground_truth": "2 x", "task": "AMPS_Hard"},
    {"turns": ["Which? Write it five times."], "ground_truth": "C", "task": "math_comp"},
    {"turns": ["Which three digits?"], "ground_truth": "068", "task": "math_comp"},
    {"turns": ["Fill in. Answer: list"], "ground_truth": "3,1,2", "task": "olympiad"},
]


def test_every_task_reads_its_own_form(tmp_path: Path) -> None:
    right = [
        r"It is $\boxed{2x}$.",
        "So BBBBB? No: CCCCC",
        "AAAA is 12 + 56 = 068",
        "Answer: 3,1,2",
    ]
    assert rewards("livebench_math", tmp_path, RECORDS, right) == [1.0, 1.0, 1.0, 1.0]
    wrong = [r"$\boxed{x}$", "CCCCC or DDDDD", "Surely 069", "Answer: 2, 3, 1"]
    assert rewards("livebench_math", tmp_path, RECORDS, wrong) == [0.0, 0.0, 0.0, 0.0]
    asked = contents("livebench_math", tmp_path / "records.jsonl", "test")
    assert asked == [record["turns"][0] for record in RECORDS]


@pytest.mark.parametrize(
    ("response", "share"),
    [
        ("Answer: 3,1,2", 1.0),
        ("answer: 1,2,3\n**Answer:** 3, 1, 2.", 1.0),
        ("Answer: 3, 2, 1", 1 / 3),
        ("Answer: 3,1,2,2,2,2", 0.5),
        ("Answer: 3", 1 / 3),
        ("Answer: 03,001,2", 1.0),
        (f"Answer: {'3' * 10_000},1,2", 2 / 3),
        ("Answer: none", 0.0),
        ("3,1,2", 0.0),
        ("", 0.0),
    ],
)
def test_places_of_a_list_are_counted(response: str, share: float) -> None:
    assert share_in_order(response, "3,1,2") == pytest.approx(share)


def test_letters_in_a_row_are_boxed() -> None:
    assert answer_in_a_box("BBBBB, so CCCC") == r"\boxed{C}"
    assert answer_in_a_box("ABC \\boxed{B}") == "ABC \\boxed{B}"


@pytest.mark.parametrize("turns", [None, [], ["a", "b"], "text", [3 * " "]])
def test_a_conversation_is_refused(turns: Any) -> None:
    with pytest.raises(ValueError, match="f, line 1: 'turns' must be"):
        problem(Record("f, line 1", {"turns": turns, "ground_truth": "1", "task": "math_comp"}))
