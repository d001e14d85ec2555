"""The coding of LiveBench (White et al., arXiv 2406.19314): problems of LiveCodeBench, and programs to be completed.

LiveCodeBench's own fields are next to LiveBench's, or in `original_json`. `turns`, where present, is
the whole question and states how to answer. In `coding_completion` it shows the beginning of a program
and asks for the rest: that beginning goes before the response's program, unless the response repeats
it. Records of other tasks are left out: their tests cannot be run here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from unmask.configs.task import DatasetTaskConfig
from unmask.rewards.programs import program_from_response
from unmask.tasks.code_problems import code_grader, fenced
from unmask.tasks.dataset import Dataset, Problem, Source
from unmask.tasks.datasets import livecodebench
from unmask.tasks.datasets.livebench_math import only_turn
from unmask.tasks.grader import Grader
from unmask.tasks.record import Record
from unmask.types import Prompt, Score

TASKS = ("LCB_generation", "coding_completion")
BEGINNING = "beginning"


def problem(record: Record) -> Problem | None:
    """Read `task`, `turns`, `partial_solution` and what `livecodebench` reads."""
    if record.text("task") not in TASKS:
        return None
    original: Any = record.values.get("original_json") or {}
    if not isinstance(original, Mapping):
        raise record.error("original_json", "must be an object")
    whole = Record(record.place, {**original, **record.values})
    question = only_turn(record) if "turns" in record.values else livecodebench.question(whole)
    beginning = str(record.values.get("partial_solution") or "")
    return Problem(question, {**livecodebench.tests_reference(whole), BEGINNING: beginning})


def whole_response(reference: Mapping[str, Any], response: str) -> str:
    """Return a response that holds the whole program, including its beginning."""
    beginning = reference[BEGINNING]
    program = program_from_response(response, reference["names"])
    if not beginning or program.startswith(beginning):
        return response
    return fenced(f"{beginning}\n{program}")


def build_grader(config: DatasetTaskConfig) -> Grader:
    """Build the grader that completes programs before it tests them."""
    tested = code_grader(config)

    def grade(items: Sequence[tuple[Prompt, str]]) -> list[Score]:
        whole = [(prompt, whole_response(prompt.reference, text)) for prompt, text in items]
        return tested.grade(whole)

    return Grader(grade, tested.close, find_unfit=tested.find_unfit, isolation=tested.isolation)


DATASET = Dataset(
    hub="livebench/coding",
    sources={"test": Source("livebench-coding", "test")},
    problem=problem,
    template="{question}",
    build_grader=build_grader,
)
