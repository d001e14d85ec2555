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


PAIR = "class Pair(object):\r\n\tdef __init__(self, a, b):\r\n\t\tself.a = a\r\n\t\tself.b = b\r\n"
OWN_OBJECTS = [
    {
        "task_id": 21,
        "text": "Write a function to sum the widths of pairs.",
        "code": f"{PAIR}def width(xs):\n  return sum(x.b - x.a for x in xs)",
        "test_list": ["assert width([Pair(1, 3), Pair(2, 7)]) == 7"],
    },
    {
        "task_id": 22,
        "text": "Write a function to find the width of a pair.",
        "code": f"{PAIR}def width(x):\n  return x.b - x.a",
        "test_list": ["assert (width(pair)) == 2", "assert width(other) == 5"],
        "test_setup_code": "pair = Pair(1, 3)\r\nother = Pair(0, 0)\r\nother.b = 5",
    },
    {
        "task_id": 23,
        "text": "Write a class of stacks.",
        "code": "class Stack(list):\n  push = list.append",
        "test_list": ["assert stack.pop() == 2"],
        "test_setup_code": "stack = Stack()\nstack.push(1)\nstack.push(2)",
    },
    {
        "task_id": 24,
        "text": "Write a function to drop what is of a type.",
        "code": "def drop(xs, kind):\n  return [x for x in xs if not isinstance(x, kind)]",
        "test_list": ["assert drop((1, 2.5, 'x'), int) == [2.5, 'x']"],
    },
    {
        "task_id": 25,
        "text": "Write a function to count letters.",
        "code": "from collections import Counter\ndef count(text):\n  return Counter(text)",
        "test_list": ["assert count('aba') == Counter({'a': 2, 'b': 1})"],
    },
]


def test_tests_may_make_objects_of_the_programs_classes(tmp_path: Path) -> None:
    right = [f"```python\n{record['code']}\n```" for record in OWN_OBJECTS]
    wrong = [
        f"{PAIR}def width(xs): return 6",
        "def width(x): return 2",
        "class Stack(list):\n  def push(self, x): self.insert(0, x)",
        "def drop(xs, kind): return [2.5, 'y']",
        "def count(text): return {'a': 2}",
    ]
    with closing(task_of(tmp_path, OWN_OBJECTS)) as task:
        prompts = task.prompts("test")
        assert task.left_out("test") == []
        for responses, reward in ((right, 1.0), (wrong, 0.0)):
            scores = task.grade(list(zip(prompts, responses, strict=True)))
            assert [score.reward for score in scores] == [reward] * len(OWN_OBJECTS)


def test_problems_that_cannot_be_judged_are_left_out_by_name(tmp_path: Path) -> None:
    changes = {
        101: {"test_setup_code": "1 / 0"},
        102: {"test_setup_code": "import no_such_package"},
        103: {"test_setup_code": "x = Missing()"},
        104: {"test_list": ["assert double(n) == 4"]},
        105: {"test_list": ["assert double(2 == 4"]},
        106: {"code": "def double(n): return n", "test_list": ["assert twice(2) == 4"]},
        107: {"test_list": []},
        # The published solution does not pass what the test makes of its class.
        108: OWN_OBJECTS[1] | {"test_setup_code": "pair = Pair(1, 3) + Pair(0, 0)\nother = pair"},
    }
    odd = [RECORDS[0] | change | {"task_id": name} for name, change in changes.items()]
    with closing(task_of(tmp_path, [*odd[:4], *RECORDS, *odd[4:]])) as task:
        with pytest.warns(
            UserWarning, match=r"mbpp: 8 of 11 test problems are left out.*task_id 101"
        ):
            prompts = task.prompts("test")
        left_out = task.left_out("test")
        assert sorted(int(reason[8:11]) for reason in left_out) == [*changes]
        right = [f"```python\n{record['code']}\n```" for record in RECORDS]
        assert [s.reward for s in task.grade(list(zip(prompts, right, strict=True)))] == [1.0] * 3


def test_a_problem_that_turns_out_unfit_is_counted_and_stops_nothing(tmp_path: Path) -> None:
    late = RECORDS[0] | {"test_list": ["assert double(2) == 4\ndouble(abs)"]}
    right = f"```python\n{late['code']}\n```"
    with closing(task_of(tmp_path, [RECORDS[0], late])) as task:
        items = [(prompt, right) for prompt in task.prompts("test")]
        with pytest.warns(
            UserWarning, match=r"double a number.*argument that is no literal: builtin"
        ):
            scores = task.grade(items)
    assert [score.reward for score in scores] == [1.0, 0.0]
    assert [score.parts.get("unfit", 0.0) for score in scores] == [0.0, 1.0]


@pytest.mark.parametrize(
    "change", [{"test_list": []}, {"test_list": ["assert other(1)"]}, {"code": "def f(:"}]
)
def test_a_record_without_a_test_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 1.*(test_list|code)"):
        task_of(tmp_path, [RECORDS[0] | change]).prompts("test")
