"""math_train: three records made by hand after the published fields, tested on MATH-500's."""

import json
from contextlib import closing
from pathlib import Path

from unmask.configs.task import DatasetTaskConfig
from unmask.tasks.build import build_task
from unmask.types import Prompt

RECORDS = [
    {"problem": "1/2?", "solution": "So $\\boxed{\\frac{1}{2}}$.", "answer": "\\frac{1}{2}"},
    {"problem": "Twelve?", "solution": "We get $\\boxed{12}$.", "answer": "12", "level": 3},
    {"problem": "Interval?", "solution": "It is $\\boxed{[0,1)}$.", "answer": "[0,1)"},
]


def test_published_solutions_are_right_and_the_test_problems_are_math500s(tmp_path: Path) -> None:
    (tmp_path / "math-train.jsonl").write_text("\n".join(map(json.dumps, RECORDS)))
    (tmp_path / "math500.json").write_text(json.dumps([{"problem": "Six?", "answer": "6"}]))
    config = DatasetTaskConfig(name="math_train", path=tmp_path, validation_share=0.4)
    with closing(build_task(config)) as task:
        prompts: list[Prompt] = []
        for split in ("train", "validation"):
            prompts += task.prompts(split)
        assert {prompt.messages[0].content[:5] for prompt in prompts} == {
            "1/2?\n",
            "Twelv",
            "Inter",
        }
        items = [(prompt, task.demonstration(prompt) or "") for prompt in prompts]
        assert [score.reward for score in task.grade(items)] == [1.0, 1.0, 1.0]
        (six,) = task.prompts("test")
        assert six.reference["answer"] == "6"
        assert task.demonstration(six) is None
