"""The layout `code`: dLLM-RL's records by function and by standard input, graded in the sandbox."""

from pathlib import Path
from typing import Any

import pytest

from tests.tasks.own_files import prompts, rewards

FUNCTION = {
    "question": "Write `double`.",
    "test_method": "function",
    "test_list": ["assert double(2) == 4", "assert math.isclose(double(0.5), 1.0)"],
    "test_time_limit": 1,
}
PREFIXED = FUNCTION | {"prefix": "from functools import reduce\ndef double(n):\n"}
STDIO = {
    "question": "Print the sum of two numbers.",
    "test_method": "stdio",
    "test_input": ["1 2\n", "3 4\n"],
    "test_output": ["3\n", "7\n"],
}
SUM = "```python\nprint(sum(map(int, input().split())))\n```"


def test_programs_are_graded_by_their_tests(tmp_path: Path):
    right = "```python\ndef double(n):\n    return n + n\n```"
    wrong = "```python\ndef double(n):\n    return n * n\n```"
    body = "```python\n    return reduce(lambda a, b: a + b, [n, n])\n```"
    records = [FUNCTION, FUNCTION, PREFIXED, PREFIXED, STDIO, STDIO]
    responses = [right, wrong, right, body, SUM, "```python\nprint(input())\n```"]
    assert rewards(tmp_path, records, responses) == [1.0, 0.0, 1.0, 1.0, 1.0, 0.0]


def test_objects_of_a_class_are_tested(tmp_path: Path):
    record = FUNCTION | {"test_list": ["assert Counter().add(2) == 2"]}
    right = "```python\nclass Counter:\n    def add(self, n):\n        return n\n```"
    assert rewards(tmp_path, [record], [right]) == [1.0]


def test_the_model_is_shown_question_and_prefix_but_no_tests(tmp_path: Path):
    text = prompts(tmp_path, [PREFIXED])[0].messages[0].content
    assert text.startswith(
        "Write `double`.\n\nThe program begins with\n\n```python\nfrom functools"
    )
    assert "assert" not in text
    assert "input()" in prompts(tmp_path, [STDIO])[0].messages[0].content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_method": "class"}, "'test_method' must be 'function' or 'stdio'"),
        ({"test_list": []}, "'test_list' must be a list of texts that is not empty"),
        ({"test_list": ["assert double(2) =="]}, "'test_list' must be Python statements"),
        ({"test_list": ["assert True"]}, "'test_list' must call a function of the program"),
        ({"test_list": ["assert np.all(double(1))"]}, "'test_list' uses 'np', which the prefix"),
        ({"test_time_limit": 9}, r"'test_time_limit' is above task\.sandbox\.cpu_s = 6"),
        (STDIO | {"test_output": ["3"]}, "'test_output' must have 2 items"),
        (STDIO | {"test_input": None}, "'test_input' must be a list"),
    ],
)
def test_a_record_that_cannot_be_graded_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
):
    with pytest.raises(ValueError, match=rf"own\.jsonl, line 2: {message}"):
        prompts(tmp_path, [FUNCTION, FUNCTION | change])
