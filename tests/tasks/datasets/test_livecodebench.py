"""livecodebench: three records made by hand after the published fields, pickled tests among them."""

import base64
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.hand_made import contents, rewards
from unmask.tasks.datasets.livecodebench import unpickle


def packed(value: Any) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def stdin(given: str, printed: str) -> dict[str, str]:
    return {"input": given, "output": printed, "testtype": "stdin"}


def call(given: str, result: str) -> dict[str, str]:
    return {"input": given, "output": result, "testtype": "functional"}


RECORDS = [
    {
        "question_content": "Print the sum of two numbers.",
        "starter_code": "",
        "public_test_cases": json.dumps([stdin("1 2\n", "3\n")]),
        "private_test_cases": packed(json.dumps([stdin("5 5\n", "10\n"), stdin("0 0\n", "0")])),
        "metadata": "{}",
    },
    {
        "question_content": "Sort and cut.",
        "starter_code": "class Solution:\n    def cut(self, nums: List[int], n: int) -> List[int]:\n        ",
        "public_test_cases": json.dumps([call("[3, 1, 2]\n2", "[1, 2]")]),
        "private_test_cases": packed(json.dumps([call("[]\n1", "[]")])),
        "metadata": json.dumps({"func_name": "cut"}),
    },
    {
        "question_content": "Print a half.",
        "starter_code": "",
        "public_test_cases": json.dumps([stdin("1\n", "0.5\n")]),
        "private_test_cases": json.dumps([stdin("3\n", "1.5\n")]),
        "metadata": "{}",
    },
]
RIGHT = [
    "```python\na, b = map(int, input().split())\nprint(a + b)\n```",
    "```python\nclass Solution:\n    def cut(self, nums: List[int], n: int) -> List[int]:\n"
    "        return tuple(heapq.nsmallest(n, nums))\n```",
    "```python\nprint(f'{int(input()) / 2:.3f}')\n```",
]


def test_right_programs_earn_one_and_wrong_ones_nothing(tmp_path: Path) -> None:
    wrong = [RIGHT[0].replace("a + b", "3"), RIGHT[1].replace("nsmallest", "nlargest"), RIGHT[0]]
    assert rewards("livecodebench", tmp_path, RECORDS, RIGHT) == [1.0, 1.0, 1.0]
    assert rewards("livecodebench", tmp_path, RECORDS, wrong) == [0.0, 0.0, 0.0]


def test_whole_numbers_of_any_size_are_read_and_compared(tmp_path: Path) -> None:
    nines, power = "9" * 50_000, "1" + "0" * 50_000
    tests = {"public_test_cases": json.dumps([call(f"[{nines}]\n1", f"[{power}]")])}
    record = RECORDS[1] | tests | {"private_test_cases": "[]"}
    right = "class Solution:\n    def cut(self, nums, n): return [nums[0] + n]"
    assert rewards("livecodebench", tmp_path, [record], [right]) == [1.0]
    assert rewards("livecodebench", tmp_path, [record], [right.replace("+", "-")]) == [0.0]


def test_the_program_is_the_block_that_is_whole(tmp_path: Path) -> None:
    usage = "\n\nExample usage:\n\n```python\nprint(Solution().cut([1], 1))\nprint(3)\n```"
    responses = [f"{right}{usage}" for right in RIGHT]
    assert rewards("livecodebench", tmp_path, RECORDS, responses) == [1.0, 1.0, 1.0]


def test_a_problem_without_tests_is_left_out_by_name(tmp_path: Path) -> None:
    odd = RECORDS[0] | {"public_test_cases": "no json", "question_id": "abc_1"}
    (tmp_path / "lcb.jsonl").write_text("\n".join(map(json.dumps, [odd, RECORDS[2]])))
    with pytest.warns(UserWarning, match="1 of 2 test problems are left out.*question_id abc_1"):
        asked = contents("livecodebench", tmp_path / "lcb.jsonl", "test")
    assert len(asked) == 1


def test_the_starter_code_is_shown(tmp_path: Path) -> None:
    rewards("livecodebench", tmp_path, RECORDS, RIGHT)
    asked = contents("livecodebench", tmp_path / "records.jsonl", "test")
    assert ["class Solution" in text for text in asked] == [False, True, False]
    assert ["standard input" in text for text in asked] == [True, False, True]


class Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("a pickle has run code",)


def test_a_pickle_that_names_anything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="print is not a builtin container"):
        unpickle(packed(Trap()))
    record = RECORDS[0] | {"private_test_cases": packed([Trap()])}
    with pytest.raises(ValueError, match=r"line 1.*private_test_cases.*cannot be unpacked"):
        rewards("livecodebench", tmp_path, [record], [""])


def test_builtin_containers_are_unpacked() -> None:
    value = {"a": [1, (2.5, None)], "b": {3}, "c": "text"}
    assert unpickle(packed(value)) == value


@pytest.mark.parametrize(
    "change",
    [
        {"public_test_cases": "no json"},
        {"public_test_cases": json.dumps([{"input": "1"}])},
        {"public_test_cases": "[]", "private_test_cases": "[]"},
        {"metadata": "{}", "public_test_cases": json.dumps([call("1", "1")])},
    ],
)
def test_what_is_no_test_is_named(change: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 1.*_test_cases"):
        rewards("livecodebench", tmp_path, [RECORDS[0] | change], [""])
