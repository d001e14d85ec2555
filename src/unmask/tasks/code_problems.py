"""What problems answered by a program have in common: the reference, the program, the grader.

A reference holds `tests` (records of `rewards.code_tests`) and, where the data set has them, what
the model may take as given: `prelude` stands before its program, and `stub` is what it continues
when it does not define `entry_point` itself.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from unmask.configs.task import DatasetTaskConfig
from unmask.rewards.code import CodeGrader, score_from_code_verdict
from unmask.rewards.code_tests import CodeTest, read_test, record_from_test
from unmask.rewards.programs import program_from_response
from unmask.tasks.grader import Grader
from unmask.types import Prompt, Score

FUTURE = re.compile(r"^from __future__ import .*\n?", re.MULTILINE)


def code_reference(
    tests: Sequence[CodeTest], prelude: str = "", stub: str = "", entry_point: str = ""
) -> dict[str, Any]:
    """Make the reference of a problem; see the module for its parts."""
    records = [record_from_test(test) for test in tests]
    return {"tests": records, "prelude": prelude, "stub": stub, "entry_point": entry_point}


def program_of(reference: Mapping[str, Any], response: str) -> str:
    """Put together what is run: the response's program after what it may take as given."""
    program = program_from_response(response)
    name = re.escape(reference["entry_point"])
    if reference["stub"] and not re.search(rf"^(async\s+)?def\s+{name}\b", program, re.MULTILINE):
        return reference["stub"] + program
    # Python wants these first.
    future = "".join(FUTURE.findall(program))
    return "\n".join((future + reference["prelude"], FUTURE.sub("\n", program)))


def code_grader(config: DatasetTaskConfig) -> Grader:
    """Make the grader that runs the tests of a problem on the program of a response."""
    grader = CodeGrader(config.sandbox)

    def grade(items: Sequence[tuple[Prompt, str]]) -> list[Score]:
        verdicts = grader.judge(
            [
                (
                    program_of(prompt.reference, response),
                    [read_test(record) for record in prompt.reference["tests"]],
                )
                for prompt, response in items
            ]
        )
        return [score_from_code_verdict(verdict, config.sandbox.credit) for verdict in verdicts]

    return Grader(grade, grader.close, program_from_response)


def names_defined(source: str) -> set[str]:
    """Return the functions, classes and variables that a module defines at its top level.

    Raises:
        SyntaxError: it is no Python.
    """
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def fenced(program: str) -> str:
    """Put a program into a fenced block."""
    return f"```python\n{program.strip()}\n```"
