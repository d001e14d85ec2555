"""Tests of programs, run where the program is not.

The test is the data set's own code and runs in this process, which the program never enters. Where
it calls the program, a stand-in sends the call into a sandbox (`rewards.sandbox`) and returns the
literal that comes back, so a comparison is always Python's own. Three kinds:

- `SourceTest`: statements that call functions of the program and assert: a whole `check()`, or one
  assert. What they need beside the program (`setup`: helpers of the problem's text) runs here too,
  so a program that redefines a helper is still measured by the right one.
- `CallTest`: one call and its expected result; a tuple counts as the list of its items, as
  LiveCodeBench compares.
- `StdioTest`: the whole program reads `stdin` and prints. Compared are lines without the space
  around them; two that differ are equal if their words are equal as decimal numbers, as
  LiveCodeBench compares.

Arguments cross by value. A test never sees what the program does to its own copy, so emptying an
argument does not make `f(xs) == sorted(xs)` true; a test of a function that only changes its
argument cannot pass.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal

from unmask.rewards.sandbox import Limits, ProgramFailedError, Sandbox, UnfitTestError
from unmask.rewards.sandbox_command import Means
from unmask.rewards.workers import Verdict

FACTORY = "unmask.rewards.code_tests:load_code_verifier"
Outcome = Literal["passed", "wrong", "timeout", "crash"]


@dataclass(frozen=True, slots=True)
class SourceTest:
    """Statements that raise unless the program is right.

    Attributes:
        source: the statements.
        names: the functions of the program they call.
        setup: what they need beside it.
    """

    source: str
    names: tuple[str, ...]
    setup: str = ""


@dataclass(frozen=True, slots=True)
class CallTest:
    """One call: `target` is `f`, or `Solution().f`; arguments and result are JSON values."""

    target: str
    args: tuple[Any, ...]
    expected: Any


@dataclass(frozen=True, slots=True)
class StdioTest:
    """What the program reads, and what it must print."""

    stdin: str
    stdout: str


CodeTest = SourceTest | CallTest | StdioTest


def record_from_test(test: CodeTest) -> dict[str, Any]:
    """Turn a test into JSON values."""
    return {"kind": type(test).__name__, **asdict(test)}


def read_test(record: Mapping[str, Any]) -> CodeTest:
    """Turn what `record_from_test` made back into the test."""
    fields = {name: value for name, value in record.items() if name != "kind"}
    match record["kind"]:
        case "SourceTest":
            return SourceTest(**fields)
        case "CallTest":
            return CallTest(**fields)
        case "StdioTest":
            return StdioTest(**fields)
        case kind:
            raise ValueError(f"no such kind of test: {kind!r}")


def run_test(sandbox: Sandbox, program: str, test: CodeTest) -> Outcome:
    """Run one test of a program in a sandbox that is ready.

    Raises:
        RuntimeError: the test itself cannot run, whatever the program.
    """
    match test:
        case SourceTest():
            is_right = _holds(lambda: _run_source(sandbox, program, test))
        case CallTest():
            is_right = _holds(lambda: _run_call(sandbox, program, test))
        case StdioTest():
            output = sandbox.run(program, test.stdin)
            is_right = output is not None and is_same_output(output, test.stdout)
    if sandbox.failure:
        return sandbox.failure
    return "passed" if is_right and not sandbox.breach else "wrong"


def _holds(body: Callable[[], None]) -> bool:
    try:
        body()
    except UnfitTestError:
        raise
    except (Exception, ProgramFailedError):
        return False
    return True


def _run_source(sandbox: Sandbox, program: str, test: SourceTest) -> None:
    namespace: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(test.setup, namespace)
        code = compile(test.source, "test.py", "exec")
    except Exception as error:
        raise UnfitTestError(f"a test cannot be set up: {error!r} in {test.setup!r}") from error
    for name in test.names:
        namespace[name] = _stand_in(sandbox, name)
    sandbox.load(program)
    random.seed(0)  # some published tests draw their cases
    try:
        exec(code, namespace)
    except ImportError as error:
        if error is sandbox.raised:
            raise
        raise UnfitTestError(f"a test needs what is not installed: {error}") from error


def _stand_in(sandbox: Sandbox, name: str) -> Callable[..., Any]:
    """Return a function that asks the program."""
    return lambda *args, **kwargs: sandbox.call(name, *args, **kwargs)


def _run_call(sandbox: Sandbox, program: str, test: CallTest) -> None:
    sandbox.load(program)
    result = sandbox.call(test.target, *test.args)
    assert (list(result) if type(result) is tuple else result) == test.expected


def is_same_output(printed: str, expected: str) -> bool:
    """Say whether a program printed what it should."""
    ours, theirs = (text.strip().split("\n") for text in (printed, expected))
    return len(ours) == len(theirs) and all(map(_is_same_line, ours, theirs))


def _is_same_line(printed: str, expected: str) -> bool:
    if printed.strip() == expected.strip():
        return True
    try:
        ours, theirs = ([Decimal(word) for word in line.split()] for line in (printed, expected))
        return ours == theirs
    except InvalidOperation:
        return False


def load_code_verifier(
    means: Means, limits: Mapping[str, Any], python: str | None, scratch: str
) -> Callable[[Mapping[str, Any]], Verdict]:
    """Return the verifier of items `{"program": ..., "test": ...}`.

    The next sandbox starts while a test runs, so that none waits for it.

    Args:
        means: the walls around a program.
        limits: fields of `Limits`.
        python: the interpreter of the programs; None is this one.
        scratch: where programs have their folders, if there are no namespaces.
    """
    path = None if python is None else Path(python)
    spare = [Sandbox(means, Limits(**limits), path, scratch=scratch)]

    def verify(item: Mapping[str, Any]) -> Verdict:
        with spare.pop() as sandbox:
            sandbox.wait_until_ready()
            spare.append(Sandbox(means, Limits(**limits), path, scratch=scratch))
            outcome = run_test(sandbox, item["program"], read_test(item["test"]))
        error = outcome if outcome in ("timeout", "crash") else None
        return Verdict(float(outcome == "passed"), error)

    return verify
