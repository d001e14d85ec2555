"""LiveCodeBench: contest problems (Jain et al., arXiv 2403.07974), by standard input or by a method.

The private tests ship as a compressed pickle of a JSON string. Unpickling can run code, so it is done
in the sandbox, by an unpickler that refuses every class, and returns a string. Public and private
tests together are the tests.
"""

from decimal import Decimal
from typing import Any

from unmask.json_files import parse_json
from unmask.rewards.code_tests import CallTest, CodeTest, StdioTest
from unmask.sandbox.isolation import best_backend
from unmask.sandbox.limits import MIB, Limits, ProgramFailedError
from unmask.sandbox.process import Sandbox
from unmask.tasks.code_problems import code_grader, code_reference
from unmask.tasks.dataset import Dataset, Problem, Source
from unmask.tasks.record import Record

# Private tests of some problems are hundreds of megabytes.
LIMITS = Limits(cpu_s=60, memory=8192 * MIB, output=2048 * MIB)
UNPICKLER = """
import base64, io, pickle, zlib

class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"{module}.{name} is not a builtin container")

def convert(text):
    return Unpickler(io.BytesIO(zlib.decompress(base64.b64decode(text)))).load()
"""
# The imports that the published runner puts before every program.
MODULES = (
    "string, re, datetime, collections, heapq, bisect, copy, math, random, statistics, itertools, "
    "functools, operator, io, sys, json, builtins, typing"
)
STARS = [f"from {name} import *" for name in MODULES.split(", ")]
PRELUDE = "\n".join([*STARS, f"import {MODULES}", "sys.setrecursionlimit(50000)"])


def problem(record: Record) -> Problem:
    """Read `question_content`, `starter_code`, both `*_test_cases` and `metadata`."""
    return Problem(question(record), tests_reference(record))


def question(record: Record) -> str:
    """Return `question_content` with the starter code, or with how to read inputs and write the answer."""
    starter = str(record.values.get("starter_code") or "")
    form = (
        "Use this starter code, and answer with the program in one ```python block.\n\n"
        f"```python\n{starter}\n```"
        if starter
        else "Read the inputs from standard input, write the answer to standard output, and answer "
        "with the program in one ```python block."
    )
    return f"{record.text('question_content')}\n\n{form}"


def tests_reference(record: Record) -> dict[str, Any]:
    """Return the reference that the grader needs, from both `*_test_cases` and `metadata`.

    Raises:
        UnfitProblemError: they hold no tests; names the field.
        ValueError: they are missing; names the field.
    """
    metadata = _json(record, "metadata", record.values.get("metadata") or "{}")
    public = _json(record, "public_test_cases", record.text("public_test_cases"))
    cases = [*public, *_private_cases(record)]
    if not cases:
        raise record.unfit("private_test_cases", "and public_test_cases must not both be empty")
    try:
        tests = [_test(case, metadata) for case in cases]
        names = ["Solution"] if any(isinstance(test, CallTest) for test in tests) else []
        return code_reference(tests, prelude=PRELUDE, names=names)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise record.unfit("public_test_cases", f"hold an invalid test ({error!r})") from error


def _private_cases(record: Record) -> list[Any]:
    text = record.values.get("private_test_cases") or "[]"
    if not isinstance(text, str):
        raise record.error("private_test_cases", "must be a text")
    if text.lstrip().startswith("["):
        return _json(record, "private_test_cases", text)
    try:
        cases = unpickle(text)
    except RuntimeError:
        raise  # of the sandbox itself
    except (Exception, ProgramFailedError) as error:
        raise record.unfit("private_test_cases", f"cannot be unpacked ({error!r})") from None
    return _json(record, "private_test_cases", cases) if isinstance(cases, str) else cases


def unpickle(text: str) -> Any:
    """Return the value of a base64 compressed pickle, unpickled in a sandbox and without any class.

    Raises:
        Exception: the string is anything else.
        ProgramFailedError: it is too large.
    """
    with Sandbox(best_backend(), LIMITS) as sandbox:
        sandbox.wait_until_ready()
        sandbox.load(UNPICKLER)
        return sandbox.call("convert", text)


def _json(record: Record, name: str, text: str) -> Any:
    try:
        return parse_json(text, name, whole_number)
    except ValueError as error:
        raise record.unfit(name, f"must be JSON ({error})") from error


def _test(case: dict[str, Any], metadata: dict[str, Any]) -> CodeTest:
    """Read one case: `testtype`, `input` and `output`; of a method, one JSON value per line of `input`."""
    if case["testtype"] == "stdin":
        return StdioTest(case["input"], case["output"])
    lines = (line for line in case["input"].split("\n") if line.strip())
    args = tuple(parse_json(line, "input", whole_number) for line in lines)
    expected = parse_json(case["output"], "output", whole_number)
    return CallTest(f"Solution().{metadata['func_name']}", args, expected)


def whole_number(digits: str) -> int:
    """Read a whole number, however long; Python's own `int` reads 4,300 digits at most."""
    return int(Decimal(digits))


DATASET = Dataset(
    hub="livecodebench/code_generation_lite",
    sources={"test": Source("livecodebench", "test")},
    problem=problem,
    template="{question}",
    build_grader=code_grader,
)
