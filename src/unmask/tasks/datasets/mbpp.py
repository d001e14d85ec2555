"""MBPP: short functions asked for in a sentence (Austin et al., arXiv 2108.07732); each assert is one test.

The asserts are shown, because nothing else names the function. Those of a few problems, or their setup,
make objects of a class that the program must define: the objects stay in the sandbox, and the asserts
get the values read from them (`sandbox.program_objects`).
"""

import ast

from unmask.rewards.code_tests import SourceTest
from unmask.rewards.source_names import names_used
from unmask.tasks.code_problems import code_grader, code_reference, fenced, names_defined
from unmask.tasks.dataset import Dataset, Problem, Source
from unmask.tasks.record import Record


def problem(record: Record) -> Problem:
    """Read `text` (`prompt` in the sanitised set), `code`, `test_list` and what the tests import."""
    asserts = _texts(record, "test_list")
    setup = str(record.values.get("test_setup_code") or "")
    setup = "\n".join([setup, *_texts(record, "test_imports")]).strip()
    code = record.text("code")
    try:
        used = names_used("\n".join([setup, *asserts])) - names_defined(setup)
        names = sorted(used & names_defined(code))
        classes = {node.name for node in ast.parse(code).body if isinstance(node, ast.ClassDef)}
        setup = "\n".join([*_imports(code, used), setup]).strip()
    except SyntaxError as error:
        raise record.unfit("code", f"and test_list must be Python ({error})") from error
    if not asserts or not names:
        raise record.unfit("test_list", "must call a function of `code`")
    wish = record.text("text" if "text" in record.values else "prompt")
    has_objects = not classes.isdisjoint(names)
    tests = [SourceTest(source, tuple(names), setup, has_objects) for source in asserts]
    return Problem(
        question=f"{wish}\nYour code should pass these tests:\n\n" + "\n".join(asserts),
        reference=code_reference(tests, names=names),
        demonstration=fenced(code),
    )


def _imports(code: str, names: set[str]) -> list[str]:
    """Return the imports of a program that bind some of these names: its tests take them from it."""
    found = [node for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return [
        ast.unparse(node)
        for node in found
        if any((alias.asname or alias.name.partition(".")[0]) in names for alias in node.names)
    ]


def _texts(record: Record, name: str) -> list[str]:
    values = record.values.get(name, [])
    if not isinstance(values, list | tuple):
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
