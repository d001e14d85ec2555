"""PrimeIntellect: about 6,000 programming problems with tests, as CURE (arXiv 2506.03136) and dLLM-RL train on them.

The records have dLLM-RL's fields: `question`, `test_method` and tests (`tasks/layouts/code.py`).
"""

from unmask.tasks.code_problems import code_grader
from unmask.tasks.dataset import Dataset, Problem, Source
from unmask.tasks.layouts import code
from unmask.tasks.record import Record


def problem(record: Record) -> Problem:
    """Read `question`, `test_method`, and `test_list` or `test_input` and `test_output`."""
    if not isinstance(record.values.get("test_method"), str):
        raise record.error("test_method", "must be 'function' or 'stdio'")
    return code.read(record, is_graded=True)


DATASET = Dataset(
    hub="Gen-Verse/PrimeIntellect",
    sources={"train": Source("primeintellect", "train")},
    problem=problem,
    template="{question}",
    build_grader=code_grader,
)
