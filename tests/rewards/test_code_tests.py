"""The three kinds of tests, run in another process than the program, and tests that are unfit."""

import json
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sandboxes import ready
from unmask.rewards.code_tests import (
    CallTest,
    CodeTest,
    SourceTest,
    StdioTest,
    is_same_output,
    prepare,
    read_test,
    record_from_test,
    run_test,
)
from unmask.sandbox.isolation import best_backend
from unmask.sandbox.limits import UnfitTestError


def outcome(program: str, test: CodeTest) -> str:
    with ready(best_backend()) as sandbox:
        return run_test(sandbox, program, test)


@pytest.mark.parametrize(
    "test",
    [
        SourceTest("assert f(1) == 1", ("f",), "import math", has_objects=True),
        CallTest("Solution().f", ([1, 2], "x", 10**9999), [1.5, None]),
        StdioTest("1\n", "2\n"),
    ],
)
def test_a_test_survives_json(test: CodeTest):
    assert read_test(json.loads(json.dumps(record_from_test(test)))) == test
    with pytest.raises(KeyError):
        read_test({"kind": "Guess"})


def test_the_problems_helpers_are_used_instead_of_the_programs():
    test = SourceTest(
        "assert poly([1, 1], root([1, 1])) == 0",
        ("root",),
        "def poly(c, x): return c[0] + c[1] * x",
    )
    assert outcome("def root(c): return -c[0] // c[1]", test) == "passed"
    # A program that brings a helper of its own is measured by the problem's.
    assert outcome("def poly(c, x): return 0\ndef root(c): return 5", test) == "wrong"


def test_a_helper_of_the_program_is_called_in_the_sandbox():
    test = SourceTest("assert decode(encode('ab')) == 'ab'", ("encode", "decode"))
    assert outcome("def encode(s): return s[::-1]\ndef decode(s): return s[::-1]", test) == "passed"


def test_a_test_may_expect_an_exception():
    test = SourceTest(
        "try:\n    f(-1)\nexcept ValueError:\n    pass\nelse:\n    assert False", ("f",)
    )
    assert outcome("def f(x):\n    if x < 0: raise ValueError('negative')", test) == "passed"
    assert outcome("def f(x): return x", test) == "wrong"
    assert outcome("def f(x): raise SystemExit", test) == "wrong"


def test_a_test_with_a_missing_package_is_unfit():
    with pytest.raises(UnfitTestError, match=r"not installed.*no_such_package"):
        outcome("def f(): return 1", SourceTest("import no_such_package", ("f",)))
    with pytest.raises(UnfitTestError, match=r"cannot be set up.*SyntaxError"):
        outcome("def f(): return 1", SourceTest("assert f( == 1", ("f",)))
    with pytest.raises(UnfitTestError, match=r"cannot be set up.*ZeroDivisionError"):
        outcome("def f(): return 1", SourceTest("assert f() == 1", ("f",), "1 / 0"))
    with pytest.raises(UnfitTestError, match=r"cannot be set up.*SystemExit"):
        outcome("def f(): return 1", SourceTest("assert f() == 1", ("f",), "raise SystemExit"))
    # The program's own failure to import is the program's.
    assert outcome("import no_such_package", SourceTest("f()", ("f",))) == "wrong"
    assert outcome("def f(): import no_such_package", SourceTest("f()", ("f",))) == "wrong"


LINK = """
class Link:
    def __init__(self, value):
        self.value, self.next = value, None
    def push(self, value):
        self.next = Link(value)
        return self.next
"""
DEPTH = "def depth(link):\n    return 0 if link is None else 1 + depth(link.next)\n"
CHAIN = "a = Link(1)\na.next = Link(2)\na.next.push(3)\nb = [Link(n) for n in (4, 5)]"


@pytest.mark.parametrize(
    ("source", "setup"),
    [
        ("assert depth(a) == 3", CHAIN),
        ("assert depth(b[0]) == 1 and b[1].value == 5", CHAIN),
        ("assert depth(Link(1)) == 1", ""),
        ("x = Link(1)\nassert x.push(2) == x.next and x.next != x\nassert x.next.next is None", ""),
        ("assert depth(a.next) == len([depth(link) for link in b])", CHAIN),
    ],
)
def test_a_test_may_make_objects_of_the_programs_classes(source: str, setup: str):
    test = SourceTest(source, ("Link", "depth"), setup, has_objects=True)
    assert outcome(LINK + DEPTH, test) == "passed"
    for wrong in (DEPTH, LINK, f"Link = int\n{DEPTH}", f"{LINK}def depth(link): return link\n"):
        if "depth" in source or wrong != LINK:
            expected = "passed" if "depth" not in source and "class Link" in wrong else "wrong"
            assert outcome(wrong, test) == expected


YES = """
class Link:
    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = lambda *_: True
    __getattr__ = lambda *_: Link()
    __call__ = lambda *_, **__: Link()
    __iter__ = lambda _: iter([Link()])
    __len__ = __int__ = __index__ = lambda _: 3
    def __init__(self, *args, **kwargs): pass
def depth(link): return Link()
"""


def test_an_object_that_equals_everything_is_no_result_where_objects_are_kept():
    for source in (
        "assert depth(a) == 3",
        "assert 3 == depth(a)",
        "assert depth(a) in (1, 2, 3)",
        "assert [depth(a)] == [3]",
        "assert depth(a) > 2",
        "assert sorted(depth(a)) == [3]",
        "assert int(depth(a)) == 3",
        "assert a.next.value == 2",
    ):
        test = SourceTest(source, ("Link", "depth"), CHAIN, has_objects=True)
        assert outcome(YES, test) == "wrong"


def test_types_cross_both_ways():
    test = SourceTest("assert without((1, 2.5, 'x'), int) == [2.5, 'x']", ("without",))
    program = "def without(xs, kind): return [x for x in xs if type(x) is not kind]"
    assert outcome(program, test) == "passed"
    kinds = SourceTest("assert kinds((1, 'x')) == [int, str]", ("kinds",))
    assert outcome("def kinds(xs): return [type(x) for x in xs]", kinds) == "passed"
    assert outcome("def kinds(xs): return ['int', 'str']", kinds) == "wrong"


def test_values_of_a_subclass_and_of_numpy_equal_the_builtin():
    program = """
from collections import Counter, namedtuple
import numpy
def f(xs): return Counter(xs)
def g(x): return namedtuple("P", "a b")(numpy.int64(x), numpy.array([x]))
class Yes(dict):
    def __eq__(self, other): return True
    __hash__ = None
def h(xs): return Yes()
"""
    assert outcome(program, CallTest("f", (["a", "b", "a"],), {"a": 2, "b": 1})) == "passed"
    assert outcome(program, CallTest("f", (["a", "b"],), {"a": 2, "b": 1})) == "wrong"
    assert outcome(program, SourceTest("assert g(3) == (3, [3])", ("g",))) == "passed"
    assert outcome(program, CallTest("h", (["a"],), {"a": 1})) == "wrong"


@pytest.mark.parametrize("depth", [99, 100, 101, 10_000])
@pytest.mark.parametrize("back", ["encode('ab')", "[encode('ab')]", "{'key': (encode('ab'),)}"])
def test_a_deep_result_that_is_passed_back_fails_only_the_program(depth: int, back: str):
    program = f"""
def encode(x):
    value = 0
    for _ in range({depth}): value = [value]
    return value
def decode(value): return 1
"""
    test = SourceTest(f"assert decode({back}) == 'ab'", ("encode", "decode"))
    assert outcome(program, test) == "wrong"
    again = "value = 0\nfor _ in range(10): value = [value, encode(value)]"
    assert outcome(program, SourceTest(again, ("encode",))) in ("passed", "wrong")
    grows = SourceTest("v = 0\nwhile True: v = [encode(v)]", ("encode",))
    assert outcome("def encode(x): return [x]", grows) == "wrong"


FORGED = """
import unmask.sandbox.guest.main as host
host.describe = lambda value, refer=None: ["value", value]
def f(): return [{tag!r}, *(part for n in range(100_000) for part in ([{key}, 1] if {tag!r} == "dict" else [{key}]))]
"""


@pytest.mark.parametrize(
    ("tag", "key"),
    [
        ("set", '["int", format(n * (2**61 - 1), "x")]'),
        ("frozenset", '["tuple", ["int", format(n * (2**61 - 1), "x")]]'),
        ("dict", '["int", format(n * (2**61 - 1), "x")]'),
    ],
)
def test_a_hostile_result_costs_the_test_little_time(tag: str, key: str):
    program = FORGED.format(tag=tag, key=key)
    start = time.process_time()
    assert outcome(program, SourceTest("assert f() == 1", ("f",))) == "crash"
    assert time.process_time() - start < 20  # built of them, a table takes minutes


@pytest.mark.parametrize(
    "answer",
    [
        "'[\"list\", ' + ', '.join(['9' * 90_000] * 100) + ']'",
        "'9' * 10_000_000",
        "'[\"int\", \"' + '9' * 10_000_000 + '\"]'",
        "'[' * 10_000_000",
        "'[\"list\", ' * 10_000 + '1' + ']' * 10_000",
        "'{\"a\":' * 10_000 + '1' + '}' * 10_000",
        "'\"' + 'x' * 10_000_000 + '\"'",
    ],
)
def test_an_answer_that_is_hard_to_read_costs_the_test_little_time(answer: str):
    program = f"""
import unmask.sandbox.guest.main as host
class Said(str):
    def encode(self): return str(self).encode()
def dumps(value):
    return Said('["' + value[0] + '", "value", ' + {answer} + ']')
def f():
    host.json.dumps = dumps
"""
    start = time.process_time()
    # A long text and a long number in hexadecimal are literals, and not 1; all others are none.
    expected = "wrong" if "'x'" in answer or "int" in answer else "crash"
    assert outcome(program, SourceTest("assert f() == 1", ("f",))) == expected
    assert time.process_time() - start < 20


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (SourceTest("assert f( == 1", ("f",)), "SyntaxError"),
        (SourceTest("assert f() == 1", ("f",), "1 / 0"), "ZeroDivisionError"),
        (SourceTest("assert f() == 1", ("f",), "x = Missing()"), "'Missing' is not defined"),
        (SourceTest("assert f() == 1", ("f",), "import no_such_package"), "no_such_package"),
        (
            SourceTest("def check():\n    import no_such.part\n", ("f",)),
            "not installed: no_such.part",
        ),
        (SourceTest("from no_such.part import x\n", ("f",)), "not installed: no_such.part"),
        (SourceTest("assert isclose(f(), 1)", ("f",)), "undefined names: isclose"),
        (SourceTest("", ("f",), "x = f()\nimport no_such"), "not installed: no_such"),
    ],
)
def test_a_test_that_cannot_run_is_found_without_a_program(test: SourceTest, said: str):
    with pytest.raises(UnfitTestError, match=said):
        prepare(test)


@pytest.mark.parametrize(
    "test",
    [
        SourceTest("assert isclose(f(), 1)", ("f",), "from math import *"),
        SourceTest("from math import *\nassert isclose(f(), 1)", ("f",)),
        SourceTest("assert f(a, key=lambda x, *y, **z: (x, y, z)) == b", ("f",), "a, b = 1, 2"),
        SourceTest(
            "def check(c, n=3):\n    try:\n        for i in range(n): c(i)\n    except E as e:\n"
            "        raise AssertionError(str(e), [x for x in ''])\ncheck(f)",
            ("f",),
            "class E(Exception): pass",
        ),
        SourceTest("assert f(x)", ("f", "Link"), "x = Link(1)"),
        SourceTest("import os.path as p\nimport json.decoder\nassert f(p, json)", ("f",)),
    ],
)
def test_a_test_that_can_run_is_not_refused(test: SourceTest):
    prepare(test)


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


def test_a_script_is_compared_by_its_output():
    test = StdioTest("2 3\n", "5\n")
    assert outcome("print(sum(map(int, input().split())))", test) == "passed"
    assert outcome("print(6)", test) == "wrong"
    assert outcome("print(5)\nraise ValueError", test) == "crash"


@pytest.mark.parametrize(
    "ending",
    [
        *(
            "exit()",
            "quit()",
            "exit(0)",
            "import sys; sys.exit()",
            "raise SystemExit",
            "exit(None)",
        ),
        *("import os, sys; sys.stdout.flush(); os._exit(0)", "exit(False)"),
        *("copyright", "help", "assert __name__ == '__main__'", "assert __doc__ is None"),
        "assert __builtins__.int is int\nimport __main__\nassert __main__.__dict__ is globals()",
        "import os, sys\nassert open(__file__).readlines()[0] == 'print(input())\\n'\n"
        "assert sys.argv == ['program.py'] and sys.path[0] == os.path.dirname(__file__)",
        "try:\n    input()\nexcept EOFError:\n    exit()",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(0.1,)).start()",
        "import threading\nt = threading.Thread(target=exit)\nt.start()\nt.join()",
        "import sys\nsys.setrecursionlimit(10**6)\nf = lambda n: n and f(n - 1)\nf(20_000)",
        "from pickle import loads, dumps\nclass A: pass\nassert type(loads(dumps(A()))) is A",
        "import atexit\natexit.register(lambda: None)",
        "assert open('/dev/stdin').read() == '5\\n'",
        "assert __cached__ is None and __spec__ is None",
    ],
)
def test_a_script_runs_as_from_the_command_line(ending: str):
    assert outcome(f"print(input())\n{ending}\n", StdioTest("5\n", "5\n")) == "passed"


def test_a_script_may_begin_with_a_byte_order_mark():
    assert outcome("\ufeffprint(input())\r\n", StdioTest("5\n", "5\n")) == "passed"


@pytest.mark.parametrize(
    "ending", ["exit(1)", "exit('no')", "import sys; sys.exit(2)", "input()", "1 / 0"]
)
def test_a_script_that_ends_in_a_failure_is_not_right(ending: str):
    assert outcome(f"print(input())\n{ending}\n", StdioTest("5\n", "5\n")) == "crash"


def test_a_script_prints_whole_numbers_of_any_size():
    test = StdioTest("50000\n", "1" + "0" * 49_999 + "7\n")
    assert outcome("print(10 ** int(input()) + 7)", test) == "passed"
    assert outcome("print(10 ** int(input()) + 8)", test) == "wrong"
    assert (
        outcome("n = int(input())\nprint(n + 1)", StdioTest("9" * 50_000, "1" + "0" * 50_000))
        == "passed"
    )


@pytest.mark.parametrize(
    "ending", ["exit()", "quit()", "raise SystemExit", "import os; os._exit(0)"]
)
@pytest.mark.parametrize("test", [CallTest("f", (), None), SourceTest("assert not f()", ("f",))])
def test_a_function_that_ends_the_program_is_not_right(test: CodeTest, ending: str):
    assert outcome(f"def f():\n    {ending}", test) in ("wrong", "crash")
    assert outcome(f"def f(): return None\n{ending}", test) in ("wrong", "crash")


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
        ("0.1", "0.10000001", True),
        ("0.3333333333333333", "0.333333333", True),
        ("1.414214", "1.4142135623730951", True),
        ("333333.3333333333", "333333.333333", True),
        ("1.2345678e10", "12345678000.1", True),
        ("1.9999999999", "2.0", True),
        ("0.0000000001", "0.0", True),
        ("-0.0", "0.0", True),
        ("x 0.3333333", "x 0.33333333333", True),
        ("1 0.3333333", "1 0.33333333333", True),
        ("x  0.3333333", "x 0.33333333333", False),
        ("2 0.3333333", "1 0.33333333333", False),
        ("y 0.3333333", "x 0.33333333333", False),
        ("0.3333333 x", "0.33333333333", False),
        ("0.3333333 1", "0.33333333333", False),
        ("0.334", "0.333333333", False),
        ("0.33334", "0.33333", False),
        ("-0.5", "0.5", False),
        ("1000001", "1000002", False),
        ("1000001.0", "1000002.0", False),
        ("1000001", "1000002.0", False),
        ("0.9999999", "1", False),
        ("1", "0.9999999", False),
        ("nan", "0.5", False),
        ("nan", "NaN", False),
        ("inf", "Infinity", False),
        ("inf", "1e400", False),
        ("1e400", "2e400", False),
        ("1.5e400", "1.6e400", False),
        ("1e999999999999", "1.0", False),
        ("1_000", "1000", False),
        ("٣", "3", False),
        ("0x10", "16", False),
        ("passed", "1", False),
    ],
)
def test_output_is_compared_line_by_line(printed: str, expected: str, is_same: bool):
    assert is_same_output(printed, expected) is is_same


@pytest.mark.parametrize(
    ("printed", "expected", "is_same"),
    [
        ("0.1", "0.10000001", False),
        ("0.10", "0.1", True),
        ("x 0.10", "x 0.1", False),
        ("-0.0", "0.0", True),
    ],
)
def test_without_a_tolerance_decimal_numbers_are_equal_or_not(
    printed: str, expected: str, is_same: bool
):
    assert is_same_output(printed, expected, 0.0) is is_same


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9), st.integers(1, 10**6))
def test_a_float_off_by_more_than_the_tolerance_is_wrong(value: Decimal, steps: int):
    scale = max(Decimal(1), abs(value)) * Decimal("1e-6")
    far, near = value + scale * (1 + steps), value + scale * Decimal("0.9")
    if not (far % 1 == 0 and value % 1 == 0):
        assert not is_same_output(f"{far:.9f}", f"{value:.9f}")
    if len(value.as_tuple().digits) < 14:  # what a float holds
        assert is_same_output(f"{near:.9f}", f"{value:.9f}")
