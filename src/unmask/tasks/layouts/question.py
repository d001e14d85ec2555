"""`{"question": "...", "ground_truth_answer": "..."}`: mathematics, as dLLM-RL's files have it.

`is_caption` marks a description of an image, which a reward term may score in another way than by its answer.
"""

from unmask.configs.task import BOXED_TEMPLATE
from unmask.tasks.dataset import Problem
from unmask.tasks.record import Record

KEYS, OPTIONAL = ("question", "ground_truth_answer"), ("is_caption",)
TEMPLATE, IS_WHOLE, IS_CODE = BOXED_TEMPLATE, False, False


def read(record: Record, is_graded: bool) -> Problem:
    """Return the problem of a record."""
    caption = {"is_caption": True} if record.values.get("is_caption") else {}
    answer = record.text("ground_truth_answer")
    return Problem(record.text("question"), {"answer": answer, **caption})
