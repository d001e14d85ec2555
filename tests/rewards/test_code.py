"""Verdicts on programs: order, credit, the outcomes of tests, and files that are removed."""

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.sandboxes import python_for
from unmask.configs.sandbox import SandboxConfig
from unmask.rewards.code import CodeGrader, CodeVerdict, score_from_code_verdict
from unmask.rewards.code_tests import CallTest, CodeTest, SourceTest, StdioTest

SQUARE = [SourceTest(f"assert f({n}) == {n * n}", ("f",)) for n in range(4)]
LIMITS = {"cpu_s": 1, "wall_s": 10.0}


@pytest.fixture(scope="module")
def grader() -> Iterator[CodeGrader]:
    with closing(CodeGrader(SandboxConfig(credit="share", **LIMITS))) as grader:
        yield grader


def test_many_programs_keep_their_order_and_leave_nothing(
    grader: CodeGrader,
):
    items: list[tuple[str, list[CodeTest]]] = [
        (f"print(int(input()) + {n % 7})", [StdioTest(str(n), str(n + n % 5))]) for n in range(35)
    ]
    verdicts = grader.grade(items)
    assert [v.share for v in verdicts] == [float(n % 7 == n % 5) for n in range(35)]
    assert {v.outcomes for v in verdicts} == {("passed",), ("wrong",)}


def test_outcomes_are_distinguished(grader: CodeGrader):
    programs = [
        "def f(x): return x * x",
        "def f(x): return x",
        "def f(x):\n    while x == 2: pass\n    return x * x",
        "import os\ndef f(x): return x * x if x < 3 else os._exit(0)",
    ]
    right, half, late, gone = grader.grade([(program, SQUARE) for program in programs])
    assert right == CodeVerdict(("passed",) * 4, 4)
    assert half.outcomes == ("passed", "passed", "wrong", "wrong")
    assert late.outcomes == ("passed", "passed", "timeout", "passed")
    assert gone.outcomes == ("passed", "passed", "passed", "crash")


def test_all_or_nothing_stops_at_a_failed_first_test():
    with closing(CodeGrader(SandboxConfig(credit="all", **LIMITS))) as grader:
        first, last, right = grader.grade(
            [
                ("def f(x): return 1", SQUARE),
                ("def f(x): return x", SQUARE),
                ("def f(x): return x * x", SQUARE),
            ]
        )
    assert first.outcomes == ("wrong",)
    assert last.outcomes == ("passed", "passed", "wrong", "wrong")
    assert [score_from_code_verdict(v, "all").reward for v in (first, last, right)] == [0, 0, 1]


def test_a_score_names_its_parts():
    verdict = CodeVerdict(("passed", "timeout"), 4)
    assert score_from_code_verdict(verdict, "share").reward == 0.25
    assert score_from_code_verdict(verdict, "all").reward == 0.0
    assert score_from_code_verdict(verdict, "all").parts == {
        "graded": 0.25,
        "code_timeout": 1.0,
        "code_crash": 0.0,
    }


def test_a_test_that_cannot_run_is_unfit_and_the_others_continue(grader: CodeGrader):
    unfit = SourceTest("import no_such_package", ("f",))
    square = ("def f(x): return x * x", SQUARE)
    right, odd, again = grader.grade([square, ("def f(): pass", [SQUARE[0], unfit]), square])
    assert right.share == again.share == 1.0
    assert odd.outcomes == ("wrong", "unfit")
    assert (
        odd.unfit
        == "a test imports a module that is not installed: No module named 'no_such_package'"
    )
    score = score_from_code_verdict(odd, "share")
    assert (score.reward, score.parts["unfit"]) == (0.0, 1.0)
    with pytest.raises(ValueError, match="without tests"):
        grader.grade([("def f(): pass", [])])
    assert grader.grade([("def f(x): return x * x", SQUARE)])[0].share == 1.0


def test_problems_that_cannot_be_graded_are_found_beforehand(grader: CodeGrader):
    solution = "class Link:\n    def __init__(self, x): self.x = x\ndef f(link): return link.x"
    link, one = ("f", "Link"), "def one(): return 1"
    found = grader.find_unfit(
        [
            ("def f(x): return x * x", SQUARE),
            (None, [SQUARE[0], SourceTest("assert f() == 1", ("f",), "1 / 0")]),
            (None, [StdioTest("x" * (64 * 2**20 + 1), "x")]),
            (None, [StdioTest("x", "x")]),
            (solution, [SourceTest("assert f(a) == 1", link, "a = Link(1)", has_objects=True)]),
            (solution, [SourceTest("assert f(a) == 1", link, "a = Link(1) + 1", has_objects=True)]),
            (None, [SourceTest("assert f(a) == 1", link, "a = Link(1) + 1", has_objects=True)]),
            (None, [SourceTest("assert f(a) == 1", ("f",), "import os\nos._exit(1)")]),
            # Neither an object nor a function of the test can be given to the program.
            (solution, [SourceTest("assert f(A()) == 1", ("f",), "class A: x = 1")]),
            ("def f(g): return g()", [SourceTest("assert f(lambda: 1) == 1", ("f",))]),
            ("def f(g): return g()", [SourceTest("assert f(one) == 1", ("f",), one)]),
            ("def f(x): return x", [SourceTest("assert f(one()) == 1", ("f",), one)]),
            (None, [SourceTest("assert f(", ("f",), "x = = 1")]),
        ]
    )
    assert [place for place, reason in enumerate(found) if not reason] == [0, 3, 4, 6, 11]
    assert "ZeroDivisionError" in found[1]
    assert "file_mb = 64: raise it" in found[2]
    assert found[5] == "a test fails the published solution"
    assert found[7] == "a test's setup ends in a crash"
    assert "argument that is no literal: A" in found[8]
    assert all("argument that is no literal: function" in found[place] for place in (9, 10))
    assert "SyntaxError" in found[12]


@pytest.mark.parametrize(
    "source",
    [
        "assert f(50_000) == 10**50_000 + 7",
        "assert len(str(f(50_000))) == 50_001 and str(f(50_000)).endswith('07')",
        "assert f(50_000) == int('1' + '0' * 49_999 + '7')",
        f"assert f(50_000) == 1{'0' * 49_999}7",
    ],
)
def test_whole_numbers_of_fifty_thousand_digits_are_compared(grader: CodeGrader, source: str):
    test = SourceTest(source, ("f",))
    programs = ["def f(n): return 10**n + 7", "def f(n): return 10**n + 6"]
    right, wrong = grader.grade([(program, [test]) for program in programs])
    assert (right.outcomes, wrong.outcomes) == (("passed",), ("wrong",))
    call = CallTest("f", (10**50_000,), 10**50_000 + 1)
    assert grader.grade([("def f(n): return n + 1", [call])])[0].share == 1.0


def test_the_tolerance_of_floats_is_the_configs(grader: CodeGrader):
    item = ("print(1 / 3)", [StdioTest("", "0.333333333")])
    assert grader.grade([item])[0].share == 1.0
    with closing(CodeGrader(SandboxConfig(float_tolerance=0.0, workers=1, **LIMITS))) as strict:
        assert strict.grade([item])[0].share == 0.0


def test_without_namespaces_programs_have_a_folder_that_is_gone_afterwards(
    monkeypatch: pytest.MonkeyPatch,
):
    python = python_for("limits")
    folder = Path(tempfile.mkdtemp(prefix="unmask-test-", dir="/tmp"))
    folder.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    program = "import os\nopen('mine', 'w').write('x')\ndef f(x): return os.listdir()"
    config = SandboxConfig(isolation="process", python=python, **LIMITS)
    with closing(CodeGrader(config)) as grader:
        verdicts = grader.grade([(program, [SourceTest("assert f(0) == ['mine']", ("f",))])] * 3)
        assert [verdict.share for verdict in verdicts] == [1.0] * 3
        assert list(folder.glob("*/*"))  # the next program's
    assert list(folder.glob("*/*")) == []
    del grader
    folder.rmdir()
