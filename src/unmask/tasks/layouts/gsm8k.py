"""Raw rows of GSM8K: `question`, and an `answer` that ends in `#### 42`."""

from unmask.configs.task import BOXED_TEMPLATE
from unmask.tasks.dataset import Problem
from unmask.tasks.datasets import gsm8k
from unmask.tasks.record import Record

KEYS, OPTIONAL = ("question", "answer"), ()
TEMPLATE, IS_WHOLE, IS_CODE = BOXED_TEMPLATE, False, False


def read(record: Record, is_graded: bool) -> Problem:
    """Return the problem of a record.

    Raises:
        ValueError: an answer without `####`, which may be a reference or a whole solution.
    """
    if "####" not in record.text("answer"):
        raise record.error(
            "answer",
            "must end in `#### number`; where it is the answer alone, set "
            'task.fields = {ground_truth_answer = "answer"}',
        )
    return gsm8k.problem(record)
