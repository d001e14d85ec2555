"""What is known of a published data set: where its splits are, how a record is a problem, what judges it.

A data set is one file of this package that exports one `Dataset`, and one line in
`tasks.public_datasets`. It holds no problems: they are read when they are asked for.
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
        question: what goes into the template.
        reference: what the grader needs, JSON values; never shown to the model.
        demonstration: a right response to the data set's own template, for SFT; None where none
            was published.
    """

    question: str
    reference: Mapping[str, Any]
    demonstration: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where one split was published.

    Attributes:
        file: how the name of a local copy begins: `gsm8k-test` is `gsm8k-test.jsonl`, and
            `gsm8k-test-first-100.parquet`.
        hub_split: the split's name on the hub.
    """

    file: str
    hub_split: str


def math_grader_of(config: DatasetTaskConfig) -> Grader:
    """Make the grader of problems whose reference is `{"answer": text}`."""
    return math_grader(config.verifier, config.extraction or "boxed")


def problem_and_answer(record: Record) -> Problem:
    """Read `problem` and `answer`, as most sets of mathematics name them, and the `solution` if there is one."""
    solution = record.text("solution") if record.values.get("solution") else None
    return Problem(record.text("problem"), {"answer": record.text("answer")}, solution)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A published data set.

    Attributes:
        hub: its hub id.
        sources: its published splits; without one for validation, training problems are held out.
        problem: what a record asks; a ValueError (`Record.error`) where it lacks a field; None
            leaves the record out, because it belongs to another task.
        subset: the name of its configuration on the hub, where there are several.
        template: what the model is asked; `{question}` stands for the problem's text.
        build_grader: makes the grader its references are for.
    """

    hub: str
    sources: Mapping[Split, Source]
    problem: Callable[[Record], Problem | None]
    subset: str | None = None
    template: str = BOXED_TEMPLATE
    build_grader: Callable[[DatasetTaskConfig], Grader] = math_grader_of
