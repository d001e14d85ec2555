"""verl's rows: `prompt` (a list of messages), `reward_model` with `ground_truth`, `data_source`, `extra_info`.

The ground truth is graded as mathematics. verl chooses a grader by `data_source`; a ground truth that is a table
or JSON (of programs, of puzzles) belongs to another one, and needs `task.reward`, which finds all fields in
`prompt.reference`.
"""

from collections.abc import Mapping
from typing import Any

from unmask.tasks.dataset import Problem
from unmask.tasks.layouts.prompt import problem_of_prompt
from unmask.tasks.record import Record

KEYS, OPTIONAL = ("prompt", "reward_model"), ("data_source", "ability", "extra_info")
TEMPLATE, IS_WHOLE, IS_CODE = "{question}", True, False


def read(record: Record, is_graded: bool) -> Problem:
    """Return the problem of a record; without a ground truth if that is not graded.

    Raises:
        ValueError: as of the layout `prompt`; or the ground truth is not a text or a number, or is judged by a model.
    """
    given: Any = record.values["reward_model"]
    if not isinstance(given, Mapping):
        raise record.error("reward_model", "must be a table with 'ground_truth'")
    if not is_graded:
        return problem_of_prompt(record, {})
    table = Record(f"{record.place}: reward_model", given)  # pyright: ignore[reportUnknownArgumentType]
    if table.values.get("style", "rule") != "rule":
        raise table.error("style", "must be 'rule', as only rules grade here; or set task.reward")
    truth = table.values.get("ground_truth")
    if isinstance(truth, str) and truth.lstrip().startswith(('{"', '["', "[{")):
        raise table.error("ground_truth", "is JSON, no answer in mathematics: set task.reward")
    if truth is None or not isinstance(truth, str | int | float):
        raise table.error("ground_truth", "must be a text or a number; for others set task.reward")
    return problem_of_prompt(record, {"answer": table.text("ground_truth")})
