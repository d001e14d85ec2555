"""HumanEval: functions to be written after their docstring (Chen et al., arXiv 2107.03374).

The whole `check()` is one test. The rest of the prompt besides the function (imports, helpers) goes
before the program and before the test: a helper that the test calls is the prompt's, never the
model's.
"""

import ast

from unmask.rewards.code_tests import SourceTest
from unmask.tasks.code_problems import code_grader, code_reference, fenced
from unmask.tasks.dataset import Dataset, Problem, Source
from unmask.tasks.record import Record


def problem(record: Record) -> Problem:
    """Read `prompt`, `entry_point`, `test` and `canonical_solution`."""
    stub, name = record.text("prompt"), record.text("entry_point")
    try:
        given = _without(stub, name)
    except SyntaxError as error:
        raise record.unfit("prompt", f"must be Python ({error})") from error
    check = SourceTest(f"{record.text('test')}\ncheck({name})", (name,), given)
    return Problem(
        question=stub,
        reference=code_reference([check], prelude=given, stub=stub, names=[name]),
        demonstration=fenced(stub + record.text("canonical_solution")),
    )


def _without(source: str, name: str) -> str:
    """Return a module without one of its functions."""
    tree = ast.parse(source)
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    named = [node for node in functions if node.name == name]
    tree.body = [node for node in tree.body if node not in named]
    return ast.unparse(tree)


DATASET = Dataset(
    hub="openai/openai_humaneval",
    sources={"test": Source("HumanEval", "test")},
    problem=problem,
    template="Complete this function and answer with the whole program in one ```python block.\n\n"
    "```python\n{question}```",
    build_grader=code_grader,
)
