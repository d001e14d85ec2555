"""Tests of programs, run in another process than the program.

The test is the data set's own code and runs in this process. Its calls of the program go through
stand-ins, which send them to a sandbox (`sandbox.process`) and return the literal that the program
returned, so comparisons are Python's own. Three kinds:

- `SourceTest`: statements that call functions of the program and assert, a whole `check()` or one
  assert. Helpers from the problem's text (`setup`) run here too, so a program that redefines a helper
  is still tested with the right one. A setup that uses the program runs after the program is loaded;
  objects of its classes stay in the sandbox (`sandbox.program_objects`).
- `CallTest`: one call and its expected result; a tuple counts as a list, as in LiveCodeBench.
- `StdioTest`: the whole program reads `stdin` and prints. Lines are compared without surrounding
  space. Lines that differ count as equal if their words are equal decimal numbers, as in
  LiveCodeBench, or numbers with a decimal point or an exponent that differ by at most a tolerance.

Arguments are passed by value. A test does not see how the program changes its copy, so emptying an
argument does not make `f(xs) == sorted(xs)` true, and a test of a function that only changes its
argument cannot pass.

`prepare` finds tests that cannot run, without any program, when the data set is read.
"""

import ast
import builtins
import math
import random
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import partial
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from types import CodeType
from typing import Any, Literal

from unmask.rewards.source_names import names_bound, names_used
from unmask.sandbox.command import Backend
from unmask.sandbox.guest.literals import MAX_DEPTH, pack, unpack
from unmask.sandbox.limits import Limits, ProgramFailedError, UnfitTestError
from unmask.sandbox.process import Sandbox
from unmask.sandbox.remote import RemoteSandbox, ServiceFailedError
from unmask.sandbox.verifier_pool import Verdict

FACTORY = "unmask.rewards.code_tests:load_code_verifier"
AnySandbox = Sandbox | RemoteSandbox
Outcome = Literal["passed", "wrong", "timeout", "crash", "unfit"]
FLOAT_TOLERANCE = 1e-6
# Converting an integer to text takes quadratic time; with this many digits less than a second.
MAX_DIGITS = 100_000
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,9})?", re.ASCII)
MAX_SHOWN = 200
WHOLE = re.compile(r"[+-]?\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class SourceTest:
    """Statements that raise an exception unless the program is right.

    Attributes:
        source: the statements.
        names: functions and classes of the program that the statements or the setup use.
        setup: statements to run before.
        has_objects: whether they make objects of the program's classes and pass them on.
    """

    source: str
    names: tuple[str, ...]
    setup: str = ""
    has_objects: bool = False

    @property
    def waits(self) -> bool:
        """Whether the setup uses the program."""
        return bool(names_used(self.setup) & set(self.names))


@dataclass(frozen=True, slots=True)
class CallTest:
    """One call: `target` is `f`, or `Solution().f`; arguments and result are JSON values."""

    target: str
    args: tuple[Any, ...]
    expected: Any


@dataclass(frozen=True, slots=True)
class StdioTest:
    """The standard input of the program, and the output that it must print."""

    stdin: str
    stdout: str


CodeTest = SourceTest | CallTest | StdioTest
KINDS = {kind.__name__: kind for kind in (SourceTest, CallTest, StdioTest)}


def record_from_test(test: CodeTest) -> dict[str, Any]:
    """Return a test as JSON values; arguments and results are packed (`guest.literals`)."""
    packed = {name: pack(value, -MAX_DEPTH) for name, value in asdict(test).items()}
    return {"kind": type(test).__name__, **packed}


def read_test(record: Mapping[str, Any]) -> CodeTest:
    """Return the test of a record made by `record_from_test`."""
    values = {n: unpack(value, -MAX_DEPTH) for n, value in record.items() if n != "kind"}
    return KINDS[record["kind"]](**values)


def run_test(
    sandbox: AnySandbox, program: str, test: CodeTest, float_tolerance: float = FLOAT_TOLERANCE
) -> Outcome:
    """Run one test of a program in a sandbox that is ready.

    Raises:
        UnfitTestError: the test itself cannot run, whatever the program.
    """
    if isinstance(test, StdioTest):
        output = sandbox.run(program, test.stdin)
        is_right = output is not None and is_same_output(output, test.stdout, float_tolerance)
    else:
        try:
            if isinstance(test, SourceTest):
                _run_source(sandbox, program, test)
            else:
                _run_call(sandbox, program, test)
            is_right = True
        except (UnfitTestError, ServiceFailedError):
            raise
        except (Exception, ProgramFailedError):  # of an assert, or of the program
            is_right = False
    # A limit that the whole process tree exceeded is known only after its end.
    sandbox.finish()
    if sandbox.failure:
        return sandbox.failure
    return "passed" if is_right and not sandbox.breach else "wrong"


def may_hand_over(test: SourceTest) -> bool:
    """Return whether a test may pass the program an object or a function."""
    nodes = [*ast.walk(ast.parse(test.setup)), *ast.walk(ast.parse(test.source))]
    has_own = any(isinstance(node, ast.ClassDef | ast.Lambda) for node in nodes)
    has_helpers = any(isinstance(node, ast.FunctionDef) for node in ast.parse(test.setup).body)
    return test.waits or test.has_objects or has_own or has_helpers


def prepare(test: SourceTest) -> None:
    """Check that a test can run, as far as that needs no program.

    Raises:
        UnfitTestError: it cannot, whatever the program.
    """
    namespace = _set_up(test)[0]
    nodes = [*ast.walk(ast.parse(f"{test.setup}\n{test.source}"))]
    modules = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    modules += [name.name for n in nodes if isinstance(n, ast.Import) for name in n.names]
    for module in modules:
        if find_spec(module.partition(".")[0]) is None:
            raise UnfitTestError(f"a test imports a module that is not installed: {module}")
    given = {*dir(builtins), *namespace, *test.names, *names_bound(nodes)}
    unknown = sorted(names_used(test.source) - given)
    if unknown and "*" not in given:  # `from x import *` may bind any name
        raise UnfitTestError(f"a test uses undefined names: {', '.join(unknown)}")


def _set_up(test: SourceTest) -> tuple[dict[str, Any], CodeType]:
    """Return the namespace of a test, and its statements compiled."""
    namespace: dict[str, Any] = {"__name__": "tests"}
    try:
        if not test.waits:
            exec(test.setup, namespace)
        return namespace, compile(test.source, "test.py", "exec")
    except (Exception, SystemExit) as error:
        raise UnfitTestError(
            f"a test cannot be set up: {error!r} in {test.setup[:MAX_SHOWN] or test.source[:MAX_SHOWN]!r}"
        ) from error


def _run_source(sandbox: AnySandbox, program: str, test: SourceTest) -> None:
    namespace, code = _set_up(test)
    namespace |= {name: _stand_in(sandbox, name) for name in test.names}
    sandbox.load(program, test.has_objects)
    random.seed(0)  # some published tests draw their cases
    try:
        if test.waits:
            exec(test.setup, namespace)
        exec(code, namespace)
    except ImportError as error:
        if error is sandbox.raised:
            raise
        raise UnfitTestError(f"a test imports a module that is not installed: {error}") from error


def _stand_in(sandbox: AnySandbox, name: str) -> Callable[..., Any]:
    """Return a function that calls the program's."""
    return lambda *args, **kwargs: sandbox.call(name, *args, **kwargs)


def _run_call(sandbox: AnySandbox, program: str, test: CallTest) -> None:
    sandbox.load(program)
    result = sandbox.call(test.target, *test.args)
    assert (list(result) if type(result) is tuple else result) == test.expected


def is_same_output(printed: str, expected: str, float_tolerance: float = FLOAT_TOLERANCE) -> bool:
    """Return whether a program printed the expected output.

    Args:
        printed: by the program.
        expected: by the test.
        float_tolerance: largest difference, absolute or relative to the expected number, between two
            words that both have a decimal point or an exponent; 0 compares decimal numbers exactly.
    """
    ours, theirs = (text.strip().split("\n") for text in (printed, expected))
    is_same = partial(_is_same_line, tolerance=float_tolerance)
    return len(ours) == len(theirs) and all(map(is_same, ours, theirs))


def _is_same_line(printed: str, expected: str, tolerance: float) -> bool:
    ours, theirs = printed.strip(), expected.strip()
    if ours == theirs:
        return True
    if all(map(NUMBER.fullmatch, [*ours.split(), *theirs.split()])):
        pairs = zip_longest(ours.split(), theirs.split(), fillvalue="nan")  # equals no number
        return all(Decimal(a) == Decimal(b) or _is_close(a, b, tolerance) for a, b in pairs)
    # Between other words, the space counts.
    pairs = zip_longest(*(re.split(r"(\s+)", line) for line in (ours, theirs)), fillvalue="")
    return all(a == b or _is_close(a, b, tolerance) for a, b in pairs)


def _is_close(printed: str, expected: str, tolerance: float) -> bool:
    """Return whether two words are close numbers, both written with a point or an exponent."""
    words = (printed, expected)
    if not all(NUMBER.fullmatch(word) and not WHOLE.fullmatch(word) for word in words):
        return False
    ours, theirs = map(float, words)
    if ours.is_integer() and theirs.is_integer():
        return False  # whole numbers are compared exactly, however large
    return tolerance > 0 and abs(ours - theirs) <= tolerance * max(1.0, abs(theirs)) < math.inf


def load_code_verifier(
    backend: Backend | None,
    limits: Mapping[str, Any],
    python: str | None,
    scratch: str,
    float_tolerance: float = FLOAT_TOLERANCE,
    url: str | None = None,
) -> Callable[[Mapping[str, Any]], Verdict]:
    """Return the verifier of items `{"program": ..., "test": ...}`; None as program only sets the test up.

    The next sandbox starts while a test runs.

    Args:
        backend: how a program is isolated; None with `url`.
        limits: fields of `Limits`.
        python: the interpreter of the programs; None is this one.
        scratch: parent of the programs' folders, if there are no namespaces.
        float_tolerance: of `is_same_output`.
        url: address of the service that runs the programs; None runs them here.
    """
    path = None if python is None else Path(python)

    def start() -> AnySandbox:
        if url is not None:
            return RemoteSandbox(url, Limits(**limits))
        assert backend is not None
        return Sandbox(backend, Limits(**limits), path, scratch=scratch)

    spare = [start()]
    sys.set_int_max_str_digits(MAX_DIGITS)

    def verify(item: Mapping[str, Any]) -> Verdict:
        program, test = item["program"], read_test(item["test"])
        try:
            if program is None:
                assert isinstance(test, SourceTest)
                prepare(test)
                return Verdict(1.0)
            with spare.pop() as sandbox:
                sandbox.wait_until_ready()
                spare.append(start())
                outcome = run_test(sandbox, program, test, float_tolerance)
        except UnfitTestError as error:
            return Verdict(0.0, "unfit", str(error))
        error = None if outcome in ("passed", "wrong") else outcome
        return Verdict(float(outcome == "passed"), error)

    return verify
