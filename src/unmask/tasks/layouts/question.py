"""`{"question": "...", "ground_truth_answer": "..."}`: mathematics, as dLLM-RL's files have it."""

from unmask.configs.task import BOXED_TEMPLATE
from unmask.tasks.dataset import Problem
from unmask.tasks.record import Record

KEYS, OPTIONAL = ("question", "ground_truth_answer"), ()
TEMPLATE, IS_WHOLE, IS_CODE = BOXED_TEMPLATE, False, False


def read(record: Record, is_graded: bool) -> Problem:
    """Return the problem of a record."""
    return Problem(record.text("question"), {"answer": record.text("ground_truth_answer")})
