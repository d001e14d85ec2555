"""Grades of responses that any program wrote: `unmask.grade` and `unmask grade`.

No model is loaded: a response is a text and the number of the problem that it answers. The verdicts
are those of an evaluation (`evaluation.grading`), so a grader can be tried on a handful of texts, and
the responses of another framework can be measured with ours.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from unmask.configs.grade import GradeConfig
from unmask.configs.keys import to_toml
from unmask.configs.load import flatten, load_config
from unmask.evaluation.grading import verdict_record
from unmask.json_files import read_records
from unmask.tasks.build import build_task
from unmask.tasks.record import record_from_json
from unmask.types import Split


def grade(
    task: Mapping[str, Any], responses: Sequence[str | tuple[int, str]], split: Split = "test"
) -> list[dict[str, Any]]:
    """Grade responses with the grader of a task.

    Args:
        task: a `[task]` table as in a configuration: `{"kind": "dataset", "name": "gsm8k"}`.
        responses: texts, the n-th to the n-th problem; or pairs of a problem's number (from 0) and a text.
        split: which problems were asked.

    Returns:
        For each response `problem`, `outcome`, `reward`, `parts` and the `answer` found in it.

    Raises:
        ValueError: a key of the task is wrong, or a problem does not exist.
        RuntimeError: the grader itself cannot run.
    """
    words = [
        f"task.{name}={to_toml(str(value) if isinstance(value, Path) else value)}"
        for name, value in flatten(task)
    ]
    return grade_config(load_config(GradeConfig, [], [*words, f"split={split}"])[0], responses)


def grade_config(
    config: GradeConfig, responses: Sequence[str | tuple[int, str]]
) -> list[dict[str, Any]]:
    """Grade responses as `grade` does, with a configuration that has been loaded."""
    numbered = [
        (place, given) if isinstance(given, str) else given for place, given in enumerate(responses)
    ]
    with closing(build_task(config.task)) as task:
        problems = task.prompts(config.split)
        for number, _ in numbered:
            if not 0 <= number < len(problems):
                raise ValueError(
                    f"problem {number}: the {config.split} split of {task.name} has problems 0 to "
                    f"{len(problems) - 1}"
                )
        scores = task.grade([(problems[number], text) for number, text in numbered])
        return [
            {"problem": number} | verdict_record(problems[number], task.answer(text), score)
            for (number, text), score in zip(numbered, scores, strict=True)
        ]


def read_responses(file: Path) -> list[tuple[int, str]]:
    """Read `{"response": TEXT, "problem": NUMBER}` records; without numbers they answer the problems in order.

    Raises:
        ValueError: a record without a text, or with a number that is none; names file and line.
    """
    found: list[tuple[int, str]] = []
    for place, value in read_records(file, "responses"):
        record = record_from_json(place, value)
        text, number = record.values.get("response"), record.values.get("problem", len(found))
        if not isinstance(text, str):
            raise record.error("response", "must be a text")
        if not isinstance(number, int) or isinstance(number, bool):
            raise record.error("problem", "must be the number of a problem, from 0")
        found.append((number, text))
    return found
