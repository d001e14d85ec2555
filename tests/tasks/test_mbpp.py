"""mbpp: records made by hand after the published fields, full and sanitised."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from unmask.configs.task import DatasetTaskConfig
from unmask.tasks.build import build_task
from unmask.tasks.task import Task

RECORDS = [
    {
        "task_id": 11,
        "text": "Write a function to double a number.",
        "code": "def double(n):\r\n  return n * 2",
        "test_list": ["assert double(2) == 4", "assert double(0) == 0", "assert double(-1) == -2"],
        "test_setup_code": "",
        "challenge_test_list": [],
    },
    {
        "task_id": 12,
        "text": "Write a function to find a root.",
        "code": "import math\ndef root(n):\n  return math.sqrt(n)",
        "test_list": [
            "assert math.isclose(root(2), 1.41421, abs_tol=1e-4)",
            "assert set([root(4)]) == {2}",
        ],
        "test_setup_code": "import math",
    },
    {
        "task_id": 13,
        "prompt": "Write a function to sum pairs.",
        "code": "def pairs(xs):\n  return [a + b for a, b in xs]",
        "test_list": ["assert pairs([(1, 2)]) == [3]"],
        "test_imports": ["import math"],
    },
]


def task_of(folder: Path, records: Sequence[dict[str, Any]]) -> Task:
    (folder / "mbpp-test.jsonl").write_text("\n".join(map(json.dumps, records)))
    return build_task(DatasetTaskConfig(name="mbpp", path=folder))


def test_right_programs_earn_one_and_wrong_ones_nothing(tmp_path: Path) -> None:
    right = [f"```python\n{record['code']}\n```" for record in RECORDS]
    wrong = ["def double(n): return 4", "def root(n): return n", "def pairs(xs): return xs"]
    with closing(task_of(tmp_path, RECORDS)) as task:
        prompts = task.prompts("test")
        for responses, reward in ((right, 1.0), (wrong, 0.0)):
            scores = task.grade(list(zip(prompts, responses, strict=True)))
            assert [score.reward for score in scores] == [reward] * 3


def test_the_tests_are_shown(tmp_path: Path) -> None:
    asked = task_of(tmp_path, RECORDS).prompts("test")[0].messages[0].content
    assert "double a number" in asked
    assert "assert double(0) == 0" in asked


def test_a_problem_whose_tests_build_objects_is_left_out(tmp_path: Path) -> None:
    pair = {
        "text": "Longest chain.",
        "code": "class Pair:\n  pass\ndef chain(xs): return 1",
        "test_list": ["assert chain([Pair(), Pair()]) == 1"],
    }
    assert len(task_of(tmp_path, [RECORDS[0], pair]).prompts("test")) == 1


@pytest.mark.parametrize(
    "change", [{"test_list": []}, {"test_list": ["assert other(1)"]}, {"code": "def f(:"}]
)
def test_a_record_without_a_test_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 1.*(test_list|code)"):
        task_of(tmp_path, [RECORDS[0] | change]).prompts("test")
