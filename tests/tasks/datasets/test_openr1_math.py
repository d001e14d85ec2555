"""openr1_math: records made by hand after the published fields; proofs are left out."""

import json
from pathlib import Path

import pytest

from unmask.configs.task import DatasetTaskConfig
from unmask.tasks.build import build_task

RECORDS = [
    {"problem": "1+1?", "solution": "It is $2$.", "answer": "2", "question_type": "math-word-problem"},
    {"problem": "Prove it.", "solution": "Trivial.", "answer": "proof", "question_type": "proof"},
    {"problem": "2+2?", "solution": "It is 4.", "answer": "4", "question_type": "MCQ"},
]  # fmt: skip


def write(path: Path, records: list[dict[str, str]]) -> DatasetTaskConfig:
    """Write records and return the task's section."""
    path.write_text("\n".join(map(json.dumps, records)))
    return DatasetTaskConfig(name="openr1_math", path=path, validation_share=0.001)


def test_problems_with_answers_are_read_and_proofs_are_not(tmp_path: Path):
    task = build_task(write(tmp_path / "own.jsonl", RECORDS))
    prompts = task.prompts("train")
    assert [prompt.reference["answer"] for prompt in prompts] == ["2", "4"]
    assert task.demonstration(prompts[0]) == "It is $2$."


def test_a_problem_without_an_answer_is_left_out_by_name(tmp_path: Path):
    records = [*RECORDS, RECORDS[0] | {"answer": "", "problem_id": "p7"}]
    task = build_task(write(tmp_path / "own.jsonl", records))
    with pytest.warns(UserWarning, match="1 of 3 train problems are left out.*problem_id p7"):
        task.prompts("train")
