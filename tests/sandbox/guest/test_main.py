"""The process of a program, tested through its own channel."""

import builtins
from collections.abc import Iterator

import pytest

from tests.sandboxes import ready
from unmask.sandbox.guest.main import describe, find, message_of
from unmask.sandbox.isolation import best_backend
from unmask.sandbox.limits import ProgramRaisedError
from unmask.sandbox.process import Sandbox

PROGRAM = """
from dataclasses import dataclass
from typing import List
import typing

@dataclass
class Point:
    x: int

def module():
    return __name__, typing.get_type_hints(Point) == {"x": int}, Point.__module__

def add(a, b=1, *rest, c=0, **more):
    return a + b + sum(rest) + c + sum(more.values())

class Solution:
    def __init__(self):
        self.calls = 0
    def solve(self, nums: List[int]) -> int:
        self.calls += 1
        return sum(nums) * self.calls

def fails(name):
    raise getattr(__import__("builtins"), name)("as it must")

class Own(Exception):
    pass

def fails_in_its_own_way():
    raise Own("reason")

def reads():
    return input()

def prints():
    print("noise")
    return 1

def deep(n):
    return 0 if n == 0 else 1 + deep(n - 1)

def ends(how):
    {"exit": exit, "quit": quit}[how]()

def large(n):
    return 10**n, str(10**n), int("9" * n)

def point(x):
    return Point(x)

def points(n):
    return [Point(0), {"last": Point(n)}]

def x_of(point):
    return point.x
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with ready(best_backend()) as sandbox:
        sandbox.load(PROGRAM)
        yield sandbox


def test_a_program_is_a_module_of_its_own(sandbox: Sandbox):
    assert sandbox.call("module") == ("program", True, "program")


def test_defaults_and_keywords_are_those_of_the_function(sandbox: Sandbox):
    assert sandbox.call("add", 1) == 2
    assert sandbox.call("add", 1, 2, 3, c=4, d=5) == 15


def test_a_method_is_called_on_a_fresh_object(sandbox: Sandbox):
    assert sandbox.call("Solution().solve", [1, 2]) == 3
    assert sandbox.call("Solution().solve", [1, 2]) == 3


@pytest.mark.parametrize("name", ["ValueError", "KeyError", "ZeroDivisionError", "AssertionError"])
def test_an_exception_of_python_is_raised_by_its_name(sandbox: Sandbox, name: str):
    with pytest.raises(getattr(builtins, name), match="as it must"):
        sandbox.call("fails", name)


@pytest.mark.parametrize(
    "name", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration"]
)
def test_exceptions_that_would_end_the_test_become_ordinary_ones(sandbox: Sandbox, name: str):
    with pytest.raises(ProgramRaisedError, match=name):
        sandbox.call("fails", name)


def test_an_exception_of_its_own_keeps_its_name(sandbox: Sandbox):
    with pytest.raises(ProgramRaisedError, match="Own: reason"):
        sandbox.call("fails_in_its_own_way")


def test_a_missing_function_is_a_name_error(sandbox: Sandbox):
    with pytest.raises(NameError, match="'missing' is not defined"):
        sandbox.call("missing")
    with pytest.raises(NameError, match="'Missing' is not defined"):
        sandbox.call("Missing().method")


def test_a_called_program_reads_and_prints_nothing(sandbox: Sandbox):
    assert sandbox.call("prints") == 1
    with pytest.raises(EOFError):
        sandbox.call("reads")


def test_recursion_is_pythons_own(sandbox: Sandbox):
    assert sandbox.call("deep", 500) == 500
    with pytest.raises(RecursionError):
        sandbox.call("deep", 10_000)


def test_recursion_goes_as_deep_as_in_a_script(sandbox: Sandbox):
    assert sandbox.call("deep", 990) == 990


@pytest.mark.parametrize("name", ["exit", "quit"])
def test_a_call_that_ends_the_program_is_an_exception(sandbox: Sandbox, name: str):
    with pytest.raises(ProgramRaisedError, match="SystemExit"):
        sandbox.call("ends", name)


def test_whole_numbers_have_any_size(sandbox: Sandbox):
    power, text, nines = sandbox.call("large", 50_000)
    assert power == 10**50_000 == nines + 1
    assert len(text) == 50_001


def test_objects_stay_inside_and_are_used_there():
    with ready(best_backend()) as sandbox:
        sandbox.load(PROGRAM, keeps_objects=True)
        point = sandbox.call("point", 3)
        assert (point.x, sandbox.call("x_of", point)) == (3, 3)
        point.x = point
        assert sandbox.call("x_of", point) == point
        first, last = sandbox.call("points", 5)
        assert (first.x, last["last"].x) == (0, 5)
        assert point != first
        with pytest.raises(AttributeError, match="y"):
            _ = point.y
    with ready(best_backend()) as sandbox:
        sandbox.load(PROGRAM)
        with pytest.raises(ProgramRaisedError, match="'Point', which is no literal"):
            sandbox.call("point", 3)


@pytest.mark.parametrize("error", ["SyntaxError", "ImportError", "NameError"])
def test_a_program_that_does_not_load_raises_its_error(error: str):
    source = {"SyntaxError": "def f(:", "ImportError": "import no_such", "NameError": "f(1)"}[error]
    with ready(best_backend()) as sandbox, pytest.raises(getattr(builtins, error)):
        sandbox.load(source)


def test_results_are_described_and_never_shown():
    assert describe([1, (2,)]) == ["value", ["list", 1, ["tuple", 2]]]
    assert describe({1: object()}) == ["foreign", "object"]
    assert find({"f": len}, "f") is len
    assert message_of(ValueError("x" * 10**6)) == "x" * 1000
