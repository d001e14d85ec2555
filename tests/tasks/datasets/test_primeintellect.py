"""primeintellect: records made by hand in dLLM-RL's fields, graded by standard input."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from unmask.configs.task import DatasetTaskConfig
from unmask.tasks.build import build_task

RECORD = {
    "question": "Print the sum.",
    "test_method": "stdio",
    "test_input": ["1 2\n"],
    "test_output": ["3\n"],
    "test_time_limit": 1,
}


def test_programs_are_graded_by_standard_input(tmp_path: Path):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(RECORD))
    config = DatasetTaskConfig(name="primeintellect", path=path, validation_share=0.001)
    with closing(build_task(config)) as task:
        (prompt,) = task.prompts("train")
        right = "```python\nprint(sum(map(int, input().split())))\n```"
        scores = task.grade([(prompt, right), (prompt, "```python\nprint(input())\n```")])
    assert [score.reward for score in scores] == [1.0, 0.0]


def test_a_record_without_a_method_is_refused(tmp_path: Path):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"question": "q"}))
    task = build_task(DatasetTaskConfig(name="primeintellect", path=path))
    with pytest.raises(ValueError, match=r"own\.jsonl, line 1: 'test_method' must be 'function'"):
        task.prompts("train")
