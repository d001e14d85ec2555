"""The record of a public data set: its splits, how a record becomes a problem, and its grader.

A data set is one file of `tasks/datasets` that exports one `Dataset` as `DATASET`, under the file's
name. It holds no problems: they are read when a split is requested.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unmask.configs.task import BOXED_TEMPLATE, DatasetTaskConfig
from unmask.tasks.grader import Grader, math_grader
from unmask.tasks.record import Record
from unmask.types import Image, Message, Split

# Key of a prompt's reference that holds the response for SFT; the model never sees it.
DEMONSTRATION = "demonstration"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem.

    Attributes:
        question: the text that fills the template.
        reference: the JSON values that the grader needs; never shown to the model.
        demonstration: a right response to the data set's own template, for SFT; None where none
            was published.
        context: the turns before the question.
        images: of the question, in the order of its markers `<image>`.
    """

    question: str
    reference: Mapping[str, Any]
    demonstration: str | None = None
    context: tuple[Message, ...] = ()
    images: tuple[Image, ...] = ()


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


def fit_problems(
    named: Sequence[tuple[str, Problem]], grader: Grader
) -> tuple[list[Problem], list[str]]:
    """Return the problems that a grader can grade, and the name and reason of each of the others."""
    # All at once, so that the grader's workers share them.
    reasons = grader.find_unfit([(p.reference, p.demonstration) for _, p in named])
    graded = [*zip(named, reasons, strict=True)]
    left_out = [f"{name}: {reason}" for (name, _), reason in graded if reason]
    return [problem for (_, problem), reason in graded if not reason], left_out


def warn_of_left_out(what: str, left_out: Sequence[str], num_kept: int) -> None:
    """Warn of problems that are left out, if there are some.

    Args:
        what: names them; `{}` stands for how many of how many.
        left_out: name and reason of each.
        num_kept: number of the others.
    """
    if left_out:
        counts = f"{len(left_out)} of {len(left_out) + num_kept}"
        warnings.warn(
            f"{what.format(counts)} are left out, because no response to them could be graded: "
            f"{'; '.join(left_out)}",
            stacklevel=4,
        )


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
