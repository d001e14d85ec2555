"""TRL's prompt-only layout: `prompt`, a text or a list of messages, which is the whole prompt.

Its graded form has the ground truth in `ground_truth_answer`, which `task.fields` maps from the data set's own name.
Without one, `task.reward` must grade: it finds the record's other fields in `prompt.reference`.
"""

from collections.abc import Mapping
from typing import Any

from unmask.data.examples import text_of, turns_of
from unmask.tasks.dataset import Problem
from unmask.tasks.record import Record
from unmask.types import Message

KEYS, OPTIONAL = ("prompt",), ("ground_truth_answer",)
TEMPLATE, IS_WHOLE, IS_CODE = "{question}", True, False


def read(record: Record, is_graded: bool) -> Problem:
    """Return the problem of a record; without a ground truth if that is not graded.

    Raises:
        ValueError: the prompt is empty or does not end with a turn of the user, or the ground truth is missing.
    """
    if is_graded and record.values.get("ground_truth_answer") is None:
        raise record.error(
            "ground_truth_answer",
            'is what responses are graded by: set task.fields = {ground_truth_answer = "..."}, or task.reward',
        )
    reference = {"answer": record.text("ground_truth_answer")} if is_graded else {}
    return problem_of_prompt(record, reference)


def problem_of_prompt(record: Record, reference: dict[str, str]) -> Problem:
    """Return the problem of a `prompt` that is a text or a list of messages; errors as `read`."""
    try:
        turns = turns_of_prompt(record.values)
    except ValueError as error:
        raise ValueError(f"{record.place}: {error}") from error
    *context, last = turns
    if last.role != "user" or not last.content.strip():
        raise record.error("prompt", "must end with a turn of the user that is not empty")
    return Problem(last.content, reference, context=tuple(context), images=last.images)


def turns_of_prompt(values: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return the turns of a `prompt`: those of its list, or a user's with its text.

    Raises:
        ValueError: it is neither, or holds a text that no tokenizer takes.
    """
    if isinstance(values["prompt"], str):
        return (Message("user", text_of(values, "prompt")),)
    return turns_of(values["prompt"], "prompt", "role", "content")
