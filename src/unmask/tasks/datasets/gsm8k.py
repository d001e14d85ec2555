"""GSM8K: grade-school word problems whose answers are numbers (Cobbe et al., arXiv 2110.14168).

The published solution ends in `#### 72` and holds calculator notes, `<<48/2=24>>`. The reference is the
number; the demonstration is the solution without notes, with its number in a box.
"""

import re

from unmask.tasks.dataset import Dataset, Problem, Source
from unmask.tasks.record import Record

NOTE = re.compile(r"<<[^<>]*>>")


def problem(record: Record) -> Problem:
    """Read `question` and `answer`."""
    solution, marker, answer = record.text("answer").rpartition("####")
    answer = answer.strip()
    if not marker or not answer:
        raise record.error("answer", "must end in `#### number`")
    demonstration = f"{NOTE.sub('', solution).rstrip()}\nThe answer is \\boxed{{{answer}}}."
    return Problem(record.text("question"), {"answer": answer}, demonstration)


DATASET = Dataset(
    hub="openai/gsm8k",
    subset="main",
    sources={"train": Source("gsm8k-train", "train"), "test": Source("gsm8k-test", "test")},
    problem=problem,
)
