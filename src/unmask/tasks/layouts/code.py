"""dLLM-RL's code records: `question`, `test_method` (`function` or `stdio`) and tests.

`function` has `test_list`, a list of assert statements, and perhaps a `prefix`, the beginning of the program: the
model is shown it, its imports stand before every program, and the whole of it before a response that does not define
the tested names. `stdio` has `test_input` and `test_output`, two lists of texts.

`task.sandbox.cpu_s` limits a test; a record whose `test_time_limit` is longer is refused, because a right program
could fail.
"""

import ast
import builtins
import sys
from collections.abc import Mapping
from typing import Any

from unmask.rewards.code_tests import SourceTest, StdioTest
from unmask.rewards.source_names import names_bound
from unmask.tasks.code_problems import code_reference
from unmask.tasks.dataset import Problem
from unmask.tasks.record import Record

KEYS = ("question", "test_method")
OPTIONAL = ("test_list", "prefix", "test_input", "test_output", "test_time_limit")
TEMPLATE, IS_WHOLE, IS_CODE = "{question}", False, True
STDIO = "Read the inputs with input(), print the answer, and answer with the program in one ```python block."
FUNCTION = "Answer with the whole program in one ```python block."


def read(record: Record, is_graded: bool) -> Problem:
    """Return the problem of a record.

    Raises:
        ValueError: an unknown method, or tests that are missing or malformed; names the field.
    """
    match record.values["test_method"]:
        case "function":
            return _function(record)
        case "stdio":
            inputs, outputs = _texts(record, "test_input"), _texts(record, "test_output")
            if len(inputs) != len(outputs):
                raise record.error("test_output", f"must have {len(inputs)} items, as test_input")
            tests = [StdioTest(*pair) for pair in zip(inputs, outputs, strict=True)]
            return Problem(f"{record.text('question')}\n\n{STDIO}", code_reference(tests))
        case _:
            raise record.error("test_method", "must be 'function' or 'stdio'")


def time_limit(record: Mapping[str, Any]) -> float:
    """Return the seconds that a test of a record may take; 0 where it does not state any."""
    value = record.get("test_time_limit")
    return float(value) if isinstance(value, int | float) else 0.0


def _function(record: Record) -> Problem:
    asserts = _texts(record, "test_list")
    prefix = str(record.values.get("prefix") or "")
    imports = "\n".join(
        line for line in prefix.splitlines() if line.startswith(("import ", "from "))
    )
    try:
        nodes = [*ast.walk(ast.parse("\n".join([imports, *asserts])))]
    except SyntaxError as error:
        raise record.error("test_list", f"must be Python statements ({error})") from error
    used = {n.id for n in nodes if isinstance(n, ast.Name)} - names_bound(nodes) - {*dir(builtins)}
    # An assert such as `assert math.isclose(f(1), 2)` needs the module, and tests `f`.
    modules = sorted(used & sys.stdlib_module_names)
    calls = [node.func for node in nodes if isinstance(node, ast.Call)]
    names = sorted({n.id for n in calls if isinstance(n, ast.Name)} & used - {*modules})
    if unknown := sorted(used - {*modules, *names}):
        raise record.error("test_list", f"uses {unknown[0]!r}, which the prefix must import")
    if not names:
        raise record.error("test_list", "must call a function of the program")
    setup = "\n".join([imports, *(f"import {name}" for name in modules)]).strip()
    has_objects = any(name[0].isupper() for name in names)  # classes, whose objects stay inside
    tests = [SourceTest(one, tuple(names), setup, has_objects) for one in asserts]
    shown = f"\n\nThe program begins with\n\n```python\n{prefix}\n```" if prefix.strip() else ""
    reference = code_reference(tests, prelude=imports, stub=prefix and f"{prefix}\n", names=names)
    return Problem(f"{record.text('question')}{shown}\n\n{FUNCTION}", reference)


def _texts(record: Record, name: str) -> list[str]:
    values: Any = record.values.get(name)
    if not isinstance(values, list) or not values or not all(isinstance(v, str) for v in values):  # pyright: ignore[reportUnknownVariableType]
        raise record.error(name, "must be a list of texts that is not empty")
    return values  # pyright: ignore[reportUnknownVariableType]
