"""OpenR1-Math-220k: competition problems with verified solutions (open-r1, 2025), to train on.

Proofs have no answer to compare and are left out. The published solution is the demonstration; the generated
ones (`generations`) are not read.
"""

from unmask.tasks.dataset import Dataset, Problem, Source, problem_and_answer
from unmask.tasks.record import Record


def problem(record: Record) -> Problem | None:
    """Read `problem`, `answer`, `solution` and `question_type`."""
    if record.values.get("question_type") == "proof":
        return None
    if not str(record.values.get("answer") or "").strip():
        raise record.unfit("answer", "must not be empty")
    return problem_and_answer(record)


DATASET = Dataset(
    hub="open-r1/OpenR1-Math-220k",
    subset="default",
    sources={"train": Source("openr1-math", "train")},
    problem=problem,
)
