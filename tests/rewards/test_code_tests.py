"""Tests run beside the program, never with it: their three kinds, and whose fault is whose."""

import json

import pytest

from tests.sandboxes import ready
from unmask.rewards.code_tests import (
    CallTest,
    CodeTest,
    SourceTest,
    StdioTest,
    is_same_output,
    read_test,
    record_from_test,
    run_test,
)
from unmask.rewards.sandbox import UnfitTestError
from unmask.rewards.sandbox_level import best_walls


def outcome(program: str, test: CodeTest) -> str:
    with ready(best_walls()) as sandbox:
        return run_test(sandbox, program, test)


@pytest.mark.parametrize(
    "test",
    [
        SourceTest("assert f(1) == 1", ("f",), "import math"),
        CallTest("Solution().f", ([1, 2], "x"), [1.5, None]),
        StdioTest("1\n", "2\n"),
    ],
)
def test_a_test_survives_json(test: CodeTest):
    first = json.dumps(record_from_test(test))
    assert json.dumps(record_from_test(read_test(json.loads(first)))) == first


def test_helpers_of_the_problem_are_not_the_programs():
    test = SourceTest(
        "assert poly([1, 1], root([1, 1])) == 0",
        ("root",),
        "def poly(c, x): return c[0] + c[1] * x",
    )
    assert outcome("def root(c): return -c[0] // c[1]", test) == "passed"
    # A program that brings a helper of its own is measured by the problem's.
    assert outcome("def poly(c, x): return 0\ndef root(c): return 5", test) == "wrong"


def test_a_helper_that_is_the_programs_is_asked_there():
    test = SourceTest("assert decode(encode('ab')) == 'ab'", ("encode", "decode"))
    assert outcome("def encode(s): return s[::-1]\ndef decode(s): return s[::-1]", test) == "passed"


def test_a_test_may_expect_an_exception():
    test = SourceTest(
        "try:\n    f(-1)\nexcept ValueError:\n    pass\nelse:\n    assert False", ("f",)
    )
    assert outcome("def f(x):\n    if x < 0: raise ValueError('negative')", test) == "passed"
    assert outcome("def f(x): return x", test) == "wrong"
    assert outcome("def f(x): raise SystemExit", test) == "wrong"


def test_a_test_that_needs_what_is_missing_is_no_verdict():
    with pytest.raises(UnfitTestError, match=r"not installed.*no_such_package"):
        outcome("def f(): return 1", SourceTest("import no_such_package", ("f",)))
    with pytest.raises(UnfitTestError, match=r"cannot be set up.*SyntaxError"):
        outcome("def f(): return 1", SourceTest("assert f( == 1", ("f",)))
    with pytest.raises(UnfitTestError, match=r"cannot be set up.*ZeroDivisionError"):
        outcome("def f(): return 1", SourceTest("assert f() == 1", ("f",), "1 / 0"))
    # The program's own failure to import is the program's.
    assert outcome("import no_such_package", SourceTest("f()", ("f",))) == "wrong"
    assert outcome("def f(): import no_such_package", SourceTest("f()", ("f",))) == "wrong"


def test_drawn_cases_are_the_same_every_time():
    draw = SourceTest("import random\nassert f(random.random()) == 0.8444218515250481", ("f",))
    assert outcome("def f(x): return x", draw) == "passed"


def test_a_call_compares_its_result():
    test = CallTest("Solution().pair", ([3, 1], 2), [1, 3])
    assert (
        outcome("class Solution:\n    def pair(self, xs, n): return tuple(sorted(xs))", test)
        == "passed"
    )
    assert outcome("class Solution:\n    def pair(self, xs, n): return xs", test) == "wrong"
    assert outcome("def pair(xs, n): return [1, 3]", test) == "wrong"


def test_a_script_is_compared_by_what_it_prints():
    test = StdioTest("2 3\n", "5\n")
    assert outcome("print(sum(map(int, input().split())))", test) == "passed"
    assert outcome("print(6)", test) == "wrong"
    assert outcome("print(5)\nraise ValueError", test) == "crash"


@pytest.mark.parametrize(
    ("printed", "expected", "is_same"),
    [
        ("1 2\n", "1 2", True),
        ("  1 2  \n\n", "1 2\n", True),
        ("a \n b", "a\nb", True),
        ("1.0 2", "1 2.00", True),
        ("1e3", "1000", True),
        ("1 2", "12", False),
        ("1\n2", "1 2", False),
        ("yes", "Yes", False),
        ("1  2", "1 2", True),
        ("a  b", "a b", False),
        ("", "", True),
        ("", "0", False),
        ("nan", "nan", True),
        ("NaN", "nan", False),
        ("sNaN", "0", False),
        ("0.1", "0.10000001", False),
        ("passed", "1", False),
    ],
)
def test_output_is_compared_line_by_line(printed: str, expected: str, is_same: bool):
    assert is_same_output(printed, expected) is is_same
