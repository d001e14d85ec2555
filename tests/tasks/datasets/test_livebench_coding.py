"""LiveBench's coding: three records made by hand after the published fields, one a program to be completed."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.datasets.test_livecodebench import call, packed, stdin
from tests.tasks.hand_made import contents, rewards
from unmask.tasks.datasets.livebench_coding import problem, whole_response
from unmask.tasks.record import Record

BEGINNING = "a = int(input())\nb = int(input())\nif a > b:"
RECORDS: list[dict[str, Any]] = [
    {
        "question_id": "1",
        "task": "LCB_generation",
        "question_content": "Print the sum of two numbers.",
        "starter_code": "",
        "public_test_cases": json.dumps([stdin("1 2\n", "3\n")]),
        "private_test_cases": packed(json.dumps([stdin("5 5\n", "10\n")])),
        "metadata": "{}",
    },
    {
        "question_id": "2",
        "task": "LCB_generation",
        "turns": ["Write class Solution with `twice`."],
        "public_test_cases": json.dumps([call("2", "4")]),
        "private_test_cases": json.dumps([call("[1]", "[1, 1]")]),
        "original_json": {"metadata": json.dumps({"func_name": "twice"})},
    },
    {
        "question_id": "3",
        "task": "coding_completion",
        "turns": [f"Print the larger number. Go on from here:\n{BEGINNING}"],
        "public_test_cases": json.dumps([stdin("2\n1\n", "2\n")]),
        "private_test_cases": json.dumps([stdin("1\n2\n", "2\n")]),
        "original_json": {"metadata": "{}"},
        "partial_solution": BEGINNING,
    },
]
REST = "    print(a)\nelse:\n    print(b)\n"
RIGHT = [
    "```python\na, b = map(int, input().split())\nprint(a + b)\n```",
    "```python\nclass Solution:\n    def twice(self, x):\n        return x * 2\n```",
    f"```python\n{REST}```",
]


def test_right_programs_earn_one_and_wrong_ones_nothing(tmp_path: Path) -> None:
    assert rewards("livebench_coding", tmp_path, RECORDS, RIGHT) == [1.0, 1.0, 1.0]
    wrong = [RIGHT[0].replace("+", "*"), RIGHT[1].replace("* 2", "* 3"), RIGHT[2].replace("a", "b")]
    assert rewards("livebench_coding", tmp_path, RECORDS, wrong) == [0.0, 0.0, 0.0]
    asked = contents("livebench_coding", tmp_path / "records.jsonl", "test")
    assert "standard input" in asked[0]
    assert asked[1:] == [record["turns"][0] for record in RECORDS[1:]]


def test_a_beginning_that_the_response_repeats_stands_once() -> None:
    repeated = f"```python\n{BEGINNING}\n{REST}```"
    reference = {"names": [], "beginning": BEGINNING}
    assert whole_response(reference, repeated) == repeated
    assert whole_response(reference, RIGHT[2]) == repeated
    assert whole_response(reference | {"beginning": ""}, RIGHT[0]) == RIGHT[0]


def test_other_tasks_are_left_out() -> None:
    assert problem(Record("f, line 1", {"task": "agentic", "turns": ["Mend it."]})) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": None}, "'task' must be"),
        ({"turns": []}, "'turns' must be a list of one text"),
        ({"original_json": "text"}, "'original_json' must be an object"),
        ({"original_json": {}}, "'public_test_cases' hold an invalid test"),
    ],
)
def test_a_broken_record_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"f, line 1: {said}"):
        problem(Record("f, line 1", RECORDS[1] | change))
