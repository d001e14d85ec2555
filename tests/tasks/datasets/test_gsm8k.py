"""GSM8K: three records made by hand after the published fields, and the real file if it is present."""

from contextlib import closing

import pytest

from tests.real_data import real_file
from unmask.configs.task import DatasetTaskConfig
from unmask.tasks.build import build_task
from unmask.tasks.datasets.gsm8k import problem
from unmask.tasks.record import Record

RECORDS = [
    Record("f, line 1", {"question": "48 + 24?", "answer": "It is 48+24=<<48+24=72>>72.\n#### 72"}),
    Record("f, line 2", {"question": "Cost?", "answer": "$<<1000*1>>1,000 in all\n#### 1,000"}),
    Record("f, line 3", {"question": "Below 0?", "answer": "#### -5"}),
]


def test_the_number_after_the_marks_is_the_reference() -> None:
    problems = [problem(record) for record in RECORDS]
    assert [p.reference for p in problems] == [{"answer": a} for a in ("72", "1,000", "-5")]
    assert [p.question for p in problems] == ["48 + 24?", "Cost?", "Below 0?"]
    assert problems[0].demonstration == "It is 48+24=72.\nThe answer is \\boxed{72}."
    assert problems[1].demonstration == "$1,000 in all\nThe answer is \\boxed{1,000}."


@pytest.mark.parametrize("answer", ["It is 72.", "It is 72.\n####", "####  \n"])
def test_a_solution_without_its_number_is_named(answer: str) -> None:
    with pytest.raises(ValueError, match="f, line 9: 'answer' must end in `#### number`"):
        problem(Record("f, line 9", {"question": "q", "answer": answer}))


def test_the_demonstrations_of_the_real_file_are_right() -> None:
    config = DatasetTaskConfig(name="gsm8k", path=real_file("gsm8k-test-400.jsonl"))
    with closing(build_task(config)) as task:
        prompts = task.prompts("test")[:60]
        items = [(prompt, task.demonstration(prompt) or "") for prompt in prompts]
        assert [score.reward for score in task.grade(items)] == [1.0] * 60
