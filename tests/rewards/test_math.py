"""Mathematical equality: what counts as the same answer, which answer of a response counts, and what cannot fool it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.configs.task import Extraction
from unmask.rewards.math import FACTORY, is_equal
from unmask.rewards.workers import Verdict, VerifierPool


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\frac{1}{2}", "0.5"),
        ("1/2", r"\dfrac{1}{2}"),
        ("18", "18.00"),
        ("18", "18."),
        ("1234", "1,234"),
        ("1,234", "1234"),
        ("10000000", "10,000,000"),
        ("1234", r"\$1,234"),
        ("50\\%", "0.5"),
        ("5", r"5 \text{ cm}"),
        ("5", "x=5"),
        ("[0, 1)", r"\left[0, 1\right)"),
        (r"(-\infty, 3]", r"(-\infty,3]"),
        (r"\{1, 2\}", r"\{2, 1\}"),
        (r"\sqrt{8}", r"2\sqrt{2}"),
        (r"\boxed{7}", "7"),
        ("$7$", "7"),
        ("Monday", "Monday"),
        ("no solution", r"\text{No solution}"),
        ("B", r"\textbf{(B)}"),
        ("(B)", "B"),
        ("-5", "\N{MINUS SIGN}5"),
        ("5/2", r"2\frac{1}{2}"),
        ("5000", r"5 \times 10^{3}"),
        ("0.001", "10^{-3}"),
        ("50\\%", r"\frac{1}{2}"),
        ("50\\%", "50"),
        ("90", r"90^\circ"),
        ("5", r"5\text{ cm}^2"),
        ("18", r"\$18\text{ per day}"),
        ("18", "$18$"),
        ("18", "18=18"),
        ("18", r"\frac{\frac{72}{2}}{2}"),
        ("18", r"\boxed{18}"),
        ("1,2", "2,1"),
        ("(1, 2)", "1,2"),
        (r"(-\infty,3)\cup(5,\infty)", r"(5,\infty)\cup(-\infty,3)"),
        ("x^2+2x+1", "(x+1)^2"),
        ("3+4i", "4i+3"),
        ("0.333333", "1/3"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}"),
    ],
)
def test_equal(gold: str, answer: str):
    assert is_equal(f"It is \\boxed{{{answer}}}", gold) == 1.0


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("18", "19"),
        ("12", "1,2"),
        ("1234", "1,2,34"),
        ("[0, 1)", "[0, 1]"),
        ("(0, 1)", "[0, 1]"),
        (r"\{1, 2\}", r"\{1, 3\}"),
        ("0.5", "50.5"),
        ("Monday", "Tuesday"),
        ("5", ""),
        ("5", r"\frac{"),
        ("18", "-18"),
        ("-18", "18"),
        ("18", r"\pm 18"),
        ("18", "1818"),
        ("18", "18 18"),
        ("18", "18x"),
        ("18", "17,18"),
        ("18", r"17 \text{ or } 18"),
        ("18", ",".join(map(str, range(100)))),
        ("18", r"17 \le x \le 19"),
        ("18", r"x \ge 18"),
        ("18", r"18 \neq 19"),
        ("18", "18=19"),
        ("18", "1=1"),
        ("18", "0/0"),
        ("0", r"\frac{0}{0}"),
        ("18", r"\infty-\infty"),
        ("18", "nan"),
        ("18", "True"),
        ("18", "18 if 1 else 19"),
        ("18", "print(18)"),
        ("18", "@@ 17 # 18"),
        ("18", r"\frac{18"),
        ("0.5", "50"),
        ("50", "0.5"),
        ("0.33", "1/3"),
        ("(1, 2)", "(2, 1)"),
        ("(1, 2, 3)", "(1, 3, 2)"),
        ("[1, 2]", "(1, 2)"),
        ("x+1", "y+1"),
        ("3+4i", "3-4i"),
        (r"\infty", r"-\infty"),
        ("B", "C"),
        ("yes", "no"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"),
    ],
)
def test_not_equal(gold: str, answer: str):
    assert is_equal(f"It is \\boxed{{{answer}}}", gold) == 0.0


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_whole_numbers_are_equal_when_they_are(gold: int, answer: int):
    assert is_equal(f"\\boxed{{{answer}}}", str(gold)) == float(gold == answer)
    assert is_equal(f"\\boxed{{{gold:,}.0}}", str(gold)) == 1.0
    assert is_equal(f"\\boxed{{\\frac{{{3 * gold}}}{{3}}}}", f"{gold:,}") == 1.0


@given(st.text(st.sampled_from("0123456789.,+-*/^_{}()[]\\$%=<>& abfrcx!|'\""), max_size=40))
def test_no_text_is_a_number_that_it_does_not_hold(answer: str):
    # 8675309 cannot be written with 40 characters of these by chance.
    assert is_equal(f"\\boxed{{{answer}}}", "8675309") == 0.0


@pytest.mark.parametrize(
    ("response", "boxed", "stated", "anywhere"),
    [
        (r"\boxed{17}, no: \boxed{18}", 1, 1, 1),
        (r"\boxed{18}, no: \boxed{17}", 0, 0, 0),
        (r"The answer is 18. \boxed{17}", 0, 0, 0),
        (r"\boxed{18} is the answer, or \boxed{1", 1, 1, 1),
        ("The answer is 18.", 0, 1, 1),
        ("The answer is $18$.", 0, 1, 1),
        ("The answer is \\$18.00.", 0, 1, 1),
        ("The answer is $18 .", 0, 1, 1),
        ("The answer is 19.", 0, 0, 0),
        ("She pays 9 + 9 = 18", 0, 0, 1),
        ("The answer is 17. She pays 18.", 0, 0, 0),
        (r"That is \boxed{18", 0, 0, 0),
        (r"\boxed{}", 0, 0, 0),
        ("", 0, 0, 0),
        ("I do not know", 0, 0, 0),
    ],
)
def test_the_last_box_counts_else_what_extraction_says(
    response: str, boxed: int, stated: int, anywhere: int
):
    ways: tuple[Extraction, ...] = ("boxed", "stated", "anywhere")
    assert [is_equal(response, "18", way) for way in ways] == [boxed, stated, anywhere]


@pytest.mark.parametrize(
    "response",
    [
        "{" * 10**6,
        "\\boxed{" * 10**5,
        "\\" * 10**6 + "boxed{19}",
        "\\boxed{" + "1" * 10**6 + "}",
        "\\boxed{" + "18," * 10**5 + "}",
        "$" * 10**6,
        "answer " * 10**5,
        "17 " * 10**5,
    ],
    ids=["braces", "boxes", "escapes", "digits", "list", "dollars", "words", "numbers"],
)
def test_a_megabyte_is_wrong_and_holds_nothing_up(response: str):
    for way in ("boxed", "anywhere"):
        assert is_equal(response, "18", way) == 0.0


def test_the_answer_after_a_megabyte_is_still_found():
    thoughts = "So 17, and then { again. " * 40_000
    assert is_equal(thoughts + r"\boxed{18}", "18") == 1.0
    assert is_equal(thoughts + "The answer is 18.", "18", "stated") == 1.0


@pytest.mark.parametrize("way", ["boxed", "stated", "anywhere"])
def test_a_program_is_no_answer(way: Extraction, tmp_path: Path):
    trace = tmp_path / "trace"
    call = f"__import__('os').system('touch {trace}')"
    for program in (call, f"[{call}, 18][1]", f"\\text{{{call}}}", f"18 + 0*{call}"):
        assert is_equal(f"The answer is \\boxed{{{program}}}", "18", way) == 0.0
        is_equal(f"The final answer is {program}", "18", way)
    assert not trace.exists()


ENDLESS = [r"9^{9^{9^{9}}}", r"((9!)!)!", r"\sum_{n=1}^{10000000} \frac{1}{n}"]


def test_what_never_ends_is_late_and_those_behind_it_are_judged():
    items = [rf"\boxed{{{text}}}" for endless in ENDLESS for text in (endless, r"\frac{36}{2}")]
    with VerifierPool(FACTORY, {}, time_limit_s=0.5) as pool:
        verdicts = pool.judge([{"response": response, "gold": "18"} for response in items])
    assert [verdict.score for verdict in verdicts] == [0.0, 1.0] * len(ENDLESS)
    assert [verdict.error for verdict in verdicts] == ["timeout", None] * len(ENDLESS)


def test_a_worker_reads_outside_a_box_only_when_told():
    items = [{"response": "The answer is 18.", "gold": "18"}]
    for extraction, score in (("boxed", 0.0), ("stated", 1.0)):
        with VerifierPool(FACTORY, {"extraction": extraction}) as pool:
            assert pool.judge(items) == [Verdict(score)]
