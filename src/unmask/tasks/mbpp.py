"""MBPP: short functions asked for in a sentence (Austin et al., arXiv 2108.07732); each assert is one test.

The asserts are shown, because nothing else names the function. Those of a few problems build an
object of a class that the program should define, which cannot cross the wall of the sandbox
(`rewards.inside.literals`): such problems are left out.
"""

import ast

from unmask.rewards.code_tests import SourceTest
from unmask.tasks.code_problems import code_grader, code_reference, fenced, names_defined
from unmask.tasks.dataset import Dataset, Problem, Source
from unmask.tasks.record import Record


def problem(record: Record) -> Problem | None:
    """Read `text` (`prompt` in the sanitised set), `code`, `test_list` and what the tests import."""
    asserts = _texts(record, "test_list")
    setup = "\n".join(
        [str(record.values.get("test_setup_code") or ""), *_texts(record, "test_imports")]
    ).strip()
    try:
        code = ast.parse(record.text("code"))
        called = {
            node.id
            for source in asserts
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Name)
        }
    except SyntaxError as error:
        raise record.error("code", f"and test_list must be Python ({error})") from error
    if called & {node.name for node in code.body if isinstance(node, ast.ClassDef)}:
        return None
    names = tuple(sorted(called & names_defined(record.text("code"))))
    if not names:
        raise record.error("test_list", "must call a function of `code`")
    wish = record.text("text" if "text" in record.values else "prompt")
    return Problem(
        question=f"{wish}\nYour code should pass these tests:\n\n" + "\n".join(asserts),
        reference=code_reference([SourceTest(source, names, setup) for source in asserts]),
        demonstration=fenced(record.text("code")),
    )


def _texts(record: Record, name: str) -> list[str]:
    values = record.values.get(name, [])
    if not isinstance(values, list | tuple) or (name == "test_list" and not values):
        raise record.error(name, "must be a list of texts")
    return [str(value) for value in values]  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]


DATASET = Dataset(
    hub="google-research-datasets/mbpp",
    subset="full",
    sources={
        "train": Source("mbpp-train", "train"),
        "validation": Source("mbpp-validation", "validation"),
        "test": Source("mbpp-test", "test"),
    },
    problem=problem,
    template="You are an expert Python programmer, and here is your task: {question}\n\n"
    "Answer with the program in one ```python block.",
    build_grader=code_grader,
)
