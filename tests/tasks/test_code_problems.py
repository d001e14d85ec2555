"""Parts that all problems answered by a program share."""

import ast

import pytest

from unmask.rewards.code_tests import SourceTest
from unmask.tasks.code_problems import code_reference, fenced, names_defined, program_of

TEST = SourceTest("assert f(1) == 1", ("f",))
STUB = 'import math\n\ndef f(x):\n    """Root."""\n'
REFERENCE = code_reference([TEST], prelude="import math", stub=STUB, names=["f"])


def run(program: str) -> object:
    namespace: dict[str, object] = {}
    exec(compile(ast.parse(program), "program", "exec"), namespace)
    return namespace["f"](16)  # type: ignore[operator]


@pytest.mark.parametrize(
    "response",
    [
        "    return math.sqrt(x)\n",
        "```python\ndef f(x):\n    return math.sqrt(x)\n```",
        "```python\nfrom math import sqrt\ndef f(x):\n    return sqrt(x)\n```",
        "```python\nfrom __future__ import annotations\ndef f(x: Unknown):\n    return math.sqrt(x)\n```",
        "Sure:\n```python\n    return math.sqrt(x)\n```",
    ],
)
def test_a_program_stands_alone_or_continues_the_prompt(response: str):
    assert run(program_of(REFERENCE, response)) == 4.0


def test_without_a_stub_the_program_is_the_responses():
    reference = code_reference([TEST])
    assert program_of(reference, "```python\nx = 1\n```").strip() == "x = 1"


def test_a_function_of_a_longer_name_is_another_one():
    assert (
        run(
            program_of(
                REFERENCE, "    return helper(x)\n\ndef ff(x): return 0\ndef helper(x): return 4.0"
            )
        )
        == 4.0
    )


def test_names_are_those_of_the_top_level():
    source = "import os\nN = 1\ndef f(): pass\nasync def g(): pass\nclass C:\n    def m(self): pass"
    assert names_defined(source) == {"N", "f", "g", "C"}


def test_a_fenced_program_is_its_own_response():
    assert (
        program_of(code_reference([TEST]), fenced("def f(x): return x")).strip()
        == "def f(x): return x"
    )
