"""Grades of responses that any program wrote: `unmask.grade` and `unmask grade`.

No model is loaded: a response is a text and the number of the problem that it answers. The verdicts
are those of an evaluation (`evaluation.grading`), so a grader can be tried on a few texts, and the
responses of another framework can be graded.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from unmask.configs.grade import GradeConfig
from unmask.configs.keys import to_toml
from unmask.configs.load import flatten, load_config
from unmask.evaluation.grading import grade_texts
from unmask.json_files import read_records
from unmask.tasks.build import build_task
from unmask.tasks.record import record_from_json
from unmask.types import Split


def grade(
    task: Mapping[str, Any], responses: Sequence[str | tuple[int, str]], split: Split = "test"
) -> list[dict[str, Any]]:
    """Grade responses with the grader of a task.

    Args:
        task: a `[task]` table of a configuration: `{"kind": "dataset", "name": "gsm8k"}`.
        responses: texts, the n-th answers the n-th problem; or pairs of a problem's number (from 0) and a
            text.
        split: the split of the problems.

    Returns:
        For each response `problem`, `outcome`, `reward`, `parts` and the extracted `answer`.

    Raises:
        ValueError: a key of the task is wrong, or a problem does not exist.
        RuntimeError: the grader itself cannot run.
    """
    overrides = [
        f"task.{name}={to_toml(str(value) if isinstance(value, Path) else value)}"
        for name, value in flatten(task)
    ]
    return grade_config(load_config(GradeConfig, [], [*overrides, f"split={split}"])[0], responses)


def grade_config(
    config: GradeConfig, responses: Sequence[str | tuple[int, str]]
) -> list[dict[str, Any]]:
    """Return verdicts as `grade` does, with a loaded configuration."""
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
        verdicts = grade_texts(task, [(problems[number], text) for number, text in numbered])
        return [
            {"problem": number} | verdict
            for (number, _), verdict in zip(numbered, verdicts, strict=True)
        ]


def read_responses(file: Path) -> list[tuple[int, str]]:
    """Return (problem, response) of `{"response": TEXT, "problem": NUMBER}` records.

    The n-th record without a number answers the n-th problem.

    Raises:
        ValueError: a record has no text, or its number is not an integer; names file and line.
    """
    found: list[tuple[int, str]] = []
    for place, value in read_records(file, "responses"):
        record = record_from_json(place, value)
        text, number = record.values.get("response"), record.values.get("problem", len(found))
        if not isinstance(text, str):
            raise record.error("response", "must be a string")
        if not isinstance(number, int) or isinstance(number, bool):
            raise record.error("problem", "must be the number of a problem, from 0")
        found.append((number, text))
    return found
