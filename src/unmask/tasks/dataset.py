"""The record of a public data set: its splits, how a record becomes a problem, and its grader.

A data set is one file of `tasks/datasets` that exports one `Dataset` as `DATASET`, under the file's
name. It holds no problems: they are read when a split is requested.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from unmask.configs.task import BOXED_TEMPLATE, DatasetTaskConfig
from unmask.tasks.grader import Grader, math_grader
from unmask.tasks.record import Record
from unmask.types import Split


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem.

    Attributes:
        question: the text that fills the template.
        reference: the JSON values that the grader needs; never shown to the model.
        demonstration: a right response to the data set's own template, for SFT; None where none
            was published.
    """

    question: str
    reference: Mapping[str, Any]
    demonstration: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """One published split.

    Attributes:
        file: the beginning of a local copy's name: `gsm8k-test` is `gsm8k-test.jsonl`, and
            `gsm8k-test-first-100.parquet`.
        hub_split: the split's name on the hub.
    """

    file: str
    hub_split: str


def math_grader_of(config: DatasetTaskConfig) -> Grader:
    """Build the grader of problems whose reference is `{"answer": text}`."""
    return math_grader(config.verifier, config.extraction or "boxed")


def problem_and_answer(record: Record) -> Problem:
    """Read `problem` and `answer`, as most mathematics sets call them, and the `solution` if there is one."""
    solution = record.text("solution") if record.values.get("solution") else None
    return Problem(record.text("problem"), {"answer": record.text("answer")}, solution)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A public data set.

    Attributes:
        hub: its hub id.
        sources: its published splits; without one for validation, training problems are held out.
        problem: converts a record; raises `Record.error` where it lacks a field, and returns None to
            leave out a record of another task.
        subset: the name of its configuration on the hub, where there are several.
        template: the prompt; `{question}` is replaced by the problem's text.
        build_grader: builds the grader of its references.
    """

    hub: str
    sources: Mapping[Split, Source]
    problem: Callable[[Record], Problem | None]
    subset: str | None = None
    template: str = BOXED_TEMPLATE
    build_grader: Callable[[DatasetTaskConfig], Grader] = math_grader_of
