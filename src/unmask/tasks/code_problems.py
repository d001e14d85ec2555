"""The reference, the program and the grader that all problems answered by a program share.

A reference holds `tests` (records of `rewards.code_tests`), the `names` that they use of the program
(none where it is a script) and, where the data set has them, code that the model may rely on:
`prelude` goes before its program, and `stub` before a response that does not define the names
itself.
"""

import ast
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from unmask.configs.task import DatasetTaskConfig, JsonTaskConfig
from unmask.rewards.code import CodeGrader, score_from_code_verdict
from unmask.rewards.code_tests import CodeTest, read_test, record_from_test
from unmask.rewards.programs import defines, program_from_response
from unmask.tasks.grader import Grader, Solved
from unmask.types import Prompt, Score

FUTURE = re.compile(r"^from __future__ import .*\n?", re.MULTILINE)


def code_reference(
    tests: Sequence[CodeTest], prelude: str = "", stub: str = "", names: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the reference of a problem; the module docstring describes its parts."""
    records = [record_from_test(test) for test in tests]
    return {"tests": records, "prelude": prelude, "stub": stub, "names": [*names]}


def program_of(reference: Mapping[str, Any], response: str) -> str:
    """Return the program to run: the code that the model may rely on, then the response's program."""
    names = reference["names"]
    program = program_from_response(response, names)
    if reference["stub"] and not all(defines(program, name) for name in names):
        return reference["stub"] + program
    # `from __future__` imports must come first.
    future = "".join(FUTURE.findall(program))
    return "\n".join((future + reference["prelude"], FUTURE.sub("\n", program)))


def code_grader(config: DatasetTaskConfig | JsonTaskConfig) -> Grader:
    """Build the grader that runs the tests of a problem on the program of a response."""
    grader = CodeGrader(config.sandbox)

    def grade(items: Sequence[tuple[Prompt, str]]) -> list[Score]:
        asked = [(prompt.reference, response) for prompt, response in items]
        verdicts = grader.grade([(program_of(*one), tests_of(one[0])) for one in asked])
        for (prompt, _), verdict in zip(items, verdicts, strict=True):
            if verdict.unfit:
                question = prompt.messages[-1].content[:200]
                warnings.warn(
                    f"{prompt.task}, prompt {prompt.uid} ({question!r}): no response could be graded; "
                    f"it is counted as unfit: {verdict.unfit}",
                    stacklevel=2,
                )
        return [score_from_code_verdict(verdict, config.sandbox.credit) for verdict in verdicts]

    def find_unfit(problems: Sequence[Solved]) -> list[str]:
        programs = [solution and program_of(given, solution) for given, solution in problems]
        tests = [tests_of(given) for given, _ in problems]
        return grader.find_unfit([*zip(programs, tests, strict=True)])

    return Grader(grade, grader.close, program_from_response, find_unfit, grader.isolation)


def tests_of(reference: Mapping[str, Any]) -> list[CodeTest]:
    """Return the tests of a problem."""
    return [read_test(record) for record in reference["tests"]]


def names_defined(source: str) -> set[str]:
    """Return the functions, classes and variables that a module defines at its top level.

    Raises:
        SyntaxError: the source is not Python.
    """
    nodes = ast.parse(source).body
    targets = [target for node in nodes if isinstance(node, ast.Assign) for target in node.targets]
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {target.id for target in targets if isinstance(target, ast.Name)} | {
        node.name for node in nodes if isinstance(node, definitions)
    }


def fenced(program: str) -> str:
    """Return a program in a fenced block."""
    return f"```python\n{program.strip()}\n```"
