"""Mathematical equality: equal answers, the answer of a response, and inputs that try to deceive the grader."""

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.real_data import real_file
from unmask.configs.task import Extraction
from unmask.rewards.math import is_equal, is_readable
from unmask.sandbox.verifier_pool import Verdict, VerifierPool
from unmask.tasks.grader import FACTORY

GOLDEN = Path(__file__).parents[1] / "golden" / "reward_v"


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
def test_whole_numbers_compare_as_integers(gold: int, answer: int):
    assert is_equal(f"\\boxed{{{answer}}}", str(gold)) == float(gold == answer)
    assert is_equal(f"\\boxed{{{gold:,}.0}}", str(gold)) == 1.0
    assert is_equal(f"\\boxed{{\\frac{{{3 * gold}}}{{3}}}}", f"{gold:,}") == 1.0


# Golds of every shape; each number in them can be changed without leaving the shape or the value.
SHAPES = [
    "{a}", "-{a}", "{a}.{b}", "-0.00{b}", r"\frac{{{a}}}{{{b}}}", r"-\frac{{{a}}}{{{b}}}", "{a}^{{{b}}}", "10^{{-{a}}}",
    "{a}.{b}e{c}", "{a}.{b}e-{c}", r"{a}.{b}\times 10^{{-{c}}}", r"\frac{{1}}{{2^{{{a}{b}}}}}", r"{a}.{b}\%", r"{a}\%",
    r"\sqrt{{{a}}}", r"\sqrt[{b}]{{{a}}}", r"{a}\pi", r"\frac{{{a}\pi}}{{{b}}}", "e^{{{a}}}", r"1-\frac{{{a}}}{{e}}",
    "{a}+{b}i", r"{a}-\sqrt{{{b}}}i", r"\ln {a}", r"\log_{{{a}}} {b}", "{a}!", r"{a}\sqrt{{{b}}}", r"{a}^\circ",
    "[{a}, {b}00]", r"({a}, {b}00]", r"(-\infty, {a}) \cup ({b}00, \infty)", r"\{{{a}, {b}00\}}",
    "({a}, {b}, -{c})", "{a}, {b}00",
    r"{a} \text{{ or }} {b}00", r"\pm {a}", r"\begin{{pmatrix}} {a} & {b} \\ -{c} & 0 \end{{pmatrix}}",
    "1{a}_{{{b}2}}", "20{a}_8",
    "x_{{{a}}}", "x_{{{a}}}+y_{b}", r"\frac{{{a}}}{{{b}}} E_{{{c}}}",
    r"\frac{{{a}}}{{{b}}} E_{{1}}+\frac{{1}}{{{c}}} E_{{2}}",
    "{a}x^{{{b}}}+{c}", "(x-{a})(x+{b})", r"\frac{{{a}x}}{{y+{b}}}", r"\sqrt{{\frac{{{a}k}}{{m}}}}",
    "y={a}x+{b}", "x={a}", "x>{a}",
    "{a}<x<{b}00", r"{a} e^{{-{b} t}}", r"{a}\sin({b}\theta)", r"10^{{-2{a}}} c", "y=10^{{-2{a}}}x",
    "f(x)={a}x^{{{b}}}", r"{a}\frac{{d v}}{{d t}}",
]  # fmt: skip

digits = st.integers(2, 9)


@given(st.sampled_from(SHAPES), digits, digits, digits, st.data())
@settings(max_examples=80)
def test_a_changed_digit_base_exponent_or_factor_is_never_equal(
    shape: str, a: int, b: int, c: int, data: st.DataObject
):
    slots = {"a": a, "b": b, "c": c}
    name = data.draw(st.sampled_from(sorted(set(re.findall(r"\{([abc])\}", shape)))))
    other = data.draw(digits.filter(lambda digit: digit != slots[name]))
    gold, answer = shape.format(**slots), shape.format(**{**slots, name: other})
    assert is_equal(f"\\boxed{{{answer}}}", gold) == 0.0


@given(st.sampled_from(SHAPES), digits, digits, digits)
@settings(max_examples=40)
def test_a_changed_sign_or_factor_is_never_equal(shape: str, a: int, b: int, c: int):
    gold = shape.format(a=a, b=b, c=c)
    if re.search(r"[=<>,]|or|cup|\\pm|matrix", gold) is None:
        for answer in (
            f"-({gold})",
            f"2\\cdot ({gold})",
            f"({gold})+1",
            f"({gold})^2+q",
            f"{gold} q",
        ):
            assert is_equal(f"\\boxed{{{answer}}}", gold) == 0.0
    assert is_equal(f"\\boxed{{{gold}, 123}}", gold) == 0.0


RESPELLINGS = [
    (r"\\frac", r"\\dfrac"),
    (r"\\frac", r"\\tfrac"),
    (r"\\times", r"\\cdot"),
    (r"\s*([+=<>])\s*", r"\\, \1\\;"),
    (r"(?<!\\)\((?!-?\\infty)", r"\\left("),
    (r"\^\{(\d)\}", r"^\1"),
    (r"_(\d)", r"_{\1}"),
    (r"(?<![\d.])e\^", r"\\mathrm{e}^"),
    (r"(\d)i\b", r"\1\\mathrm{i}"),
    (r"(\d)e(-?\d)$", r"\1\\times10^{\2}"),
    (r"(\d)e(-?\d)$", r"\1E\2"),
    (r"^(-?)\\frac\{(\d)\}\{(\d)\}$", r"\1\2/\3"),
    (r"^(-?\d(?:\.\d)?)$", r"\1 \\text{ cm}"),
    (r"^(-?\d(?:\.\d)?)$", r"x = \1"),
    (r"^(-?\d)$", r"\1.0"),
    (r"^(-?\d(?:\.\d)?)\\%$", r"\1"),
    (r"\\pi", r"\\mathrm{\\pi}"),
    (r"^(.*)$", r"$\1$"),
    (r"^(.*)$", r"\\displaystyle \1."),
]


@given(st.sampled_from(SHAPES), st.sampled_from(RESPELLINGS), digits, digits, digits)
@settings(max_examples=100)
def test_another_spelling_is_always_equal(
    shape: str, respelling: tuple[str, str], a: int, b: int, c: int
):
    gold = shape.format(a=a, b=b, c=c)
    answer = re.sub(*respelling, gold)
    if r"\left(" in answer:
        answer = re.sub(r"\)", r"\\right)", answer)
    assert is_equal(f"\\boxed{{{answer}}}", gold) == 1.0
    assert is_equal(f"\\boxed{{{gold}}}", answer) == 1.0
    assert is_readable(gold)


@pytest.mark.parametrize(
    "gold",
    [
        "18",
        "0.5",
        r"\frac{1}{2}",
        "x^2",
        "3, 5",
        "(1, 2)",
        "x>3",
        "e",
        "B",
        "Monday",
        "1e-30",
        "1101_2",
        "E_1",
    ],
)
@pytest.mark.parametrize(
    "answer",
    [
        "", " ", ".", "nan", "NaN", "None", "True", "0", r"\infty", "z", "?", "@", r"\boxed{}", "{}", "()",
        r"\{\}", r"\emptyset", "[]",
        "What is the answer?", "the answer", "10^{-40}", "0,1,2,3,4,5,6,7,8,9,18,0.5", r"\mathbb{R}",
        r"x^2, 18, \frac{1}{2}", "18; 3; 5", r"(-\infty, \infty)", "A, B, C, D", "A B C D", r"x = x", "0=0", "9" * 900,
    ],
)  # fmt: skip
def test_a_response_without_an_answer_is_wrong(gold: str, answer: str):
    for way in ("boxed", "stated", "anywhere"):
        assert is_equal(f"\\boxed{{{answer}}}", gold, way) == 0.0
        assert is_equal(answer, gold, way) == 0.0


def test_real_golds_are_equal_to_themselves_and_to_no_neighbour():
    draw = random.Random(0)
    lines = real_file("gsm8k-test-400.jsonl").read_text().splitlines()
    golds = sorted({json.loads(line)["answer"].rpartition("####")[2].strip() for line in lines})
    assert len(golds) > 100
    for gold in golds:
        place = draw.choice([index for index, letter in enumerate(gold) if letter.isdigit()])
        digit = str((int(gold[place]) + draw.randrange(1, 10)) % 10)
        changed = gold[:place] + digit + gold[place + 1 :]
        plain = gold.replace(",", "")
        for answer in (
            gold,
            plain,
            f"\\${gold}",
            f"{plain}.00",
            rf"{plain}\text{{ apples}}",
            f"{plain}e0",
        ):
            assert is_equal(f"\\boxed{{{answer}}}", gold) == 1.0
        for answer in (
            changed,
            f"-{plain}",
            f"{plain}0.5",
            f"{plain}e1",
            f"{plain}_7",
            f"{plain}, 1",
        ):
            assert is_equal(f"\\boxed{{{answer}}}", gold) == float(
                plain == "0" and answer in ("-0", "0e1")
            )
        assert is_equal(f"The answer is **${gold}**.", gold, "stated") == 1.0
        assert is_equal(f"The answer is **${changed}**.", gold, "stated") == 0.0


@given(st.text(st.sampled_from("0123456789.,+-*/^_{}()[]\\$%=<>& abfrcx!|'\""), max_size=40))
def test_a_text_equals_only_numbers_that_it_contains(answer: str):
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
def test_the_last_box_counts_else_the_extraction_decides(
    response: str, boxed: int, stated: int, anywhere: int
):
    ways: tuple[Extraction, ...] = ("boxed", "stated", "anywhere")
    assert [is_equal(response, "18", way) for way in ways] == [boxed, stated, anywhere]


@pytest.mark.parametrize(
    ("gold", "response", "score"),
    [
        ("3, 5", r"The solutions are $\boxed{3}$ and $\boxed{5}$.", 1),
        ("3, 5", r"$\boxed{3}, \boxed{5}$", 1),
        ("5, 3", r"$x=\boxed{3}$ or $x=\boxed{5}$", 1),
        ("3, 5", "\\boxed{3}\n\\boxed{5}", 1),
        ("3, 5, 7", r"\boxed{3}, \boxed{5}, and \boxed{7}", 1),
        (r"\pm 2", r"\boxed{2} and \boxed{-2}", 1),
        ("3, 5", r"I tried \boxed{9}. The solutions are \boxed{3} and \boxed{5}.", 1),
        ("3, 5", r"\boxed{3} and \boxed{5}, no: \boxed{3} and \boxed{6}", 0),
        ("3, 5", r"First I thought \boxed{3}. But no: the answer is \boxed{5}.", 0),
        ("3, 5", r"\boxed{5} and \boxed{5}", 0),
        ("5", r"First I thought \boxed{3}. But no: the answer is \boxed{5}.", 1),
        ("5", r"\boxed{3} and \boxed{5}", 1),
        ("3", r"\boxed{3} and \boxed{5}", 0),
        ("(1, 2)", r"\boxed{1} and \boxed{2}", 0),
        ("5", r"\fbox{5}", 1),
        ("5", r"\fbox{3}, no: \boxed{5}", 1),
        ("5", r"\boxed{5}, no: \fbox{3}", 0),
        ("73", r"so it is \boxed 73.", 1),
        ("5", r"so it is $\boxed5$", 1),
        (r"\frac{1}{2}", r"$\boxed\frac12$", 1),
        ("B", r"\boxed B", 1),
        ("np.arcsin(10/13)", r"\boxed{np.arcsin(10 / 13)}", 1),
        ("np.arcsin(10/13)", r"\boxed{10/13}", 0),
        ("$i^5=i^4 \\cdot i=i$", r"\boxed{i^5=i^4 \cdot i=i}", 1),
        ("31/2", r"\boxed{3 1/2}", 0),
    ],
)
def test_boxes(gold: str, response: str, score: float):
    assert is_equal(response, gold) == score


@pytest.mark.parametrize(
    ("gold", "response"),
    [
        ("73", "All of them: 12.\n\nFinal Answer: **73**"),
        ("73", "Final Answer: __73__"),
        ("73", "**Final Answer:** 73"),
        ("73", "**Final Answer**\n\n**73**"),
        ("73", "The answer is *73*."),
        ("73", r"The answer is $\mathbf{73}$."),
        ("-73", r"The answer is $\mathbf{-73}$."),
        ("73", "_Final Answer_: _73_"),
        ("73", "The answer is <b>73</b>."),
        ("73", r"The answer is \underline{73}."),
        ("73", "The answer is:\n$$73$$"),
        ("73", r"The answer is \(73\) km."),
        ("9500", "The answer is $9{,}500."),
        ("9500", r"The answer is \$9{,}500."),
        ("9500", r"The answer is $9\,500$."),
        ("9500", "The answer is **$9,500**."),
        ("9500", "The answer is 9 500."),
        ("9500", "The answer is 9\N{NO-BREAK SPACE}500 people."),
        ("9500", r"The answer is 9\;500 people."),
        ("18", "The answer to question 1 is 9 + 9 = 18 apples."),
        ("4.5e7", r"The answer is 4.5e7 m."),
        ("12.5\\%", "The answer is 12.5%."),
        ("5000000", "The answer is 5 million."),
        ("8", "The answer is 2**3."),
        ("3, 5", "The answers are $3$ and $5$."),
        ("(3, 5)", "The answer is (3, 5)."),
        (r"\frac{1}{2}", r"The answer is $\frac{1}{2}$ of the cake."),
        ("B", "Answer: (B)"),
        ("no solution", "The answer is **no solution**."),
    ],
)
def test_stated_answers(gold: str, response: str):
    assert is_equal(response, gold, "stated") == is_equal(response, gold, "anywhere") == 1.0
    assert is_equal(response, gold) == 0.0


@pytest.mark.parametrize(
    ("gold", "response"),
    [
        ("73", "Final Answer: **74**"),
        ("9500", "The answer is 9{,}501."),
        ("73", "The answer is 72 or 73."),
        ("5", "The answer is 5 sqrt(2) m."),
        ("5", "The answer is 5 to 6 people."),
        ("(2516)_8", "The answer is (2516)_7."),
        ("72", "The answer is 72 or 73."),
        ("5", "The answer is -5."),
        ("5", "The answer is 5 million."),
        ("23", "The answer is 2**3."),
        ("73", r"The final answer is $\boxed{73"),
    ],
)
def test_stated_answers_that_are_wrong(gold: str, response: str):
    assert is_equal(response, gold, "stated") == is_equal(response, gold, "anywhere") == 0.0


def test_golds_that_can_be_read():
    golds = [
        "18",
        r"\frac{1}{2}",
        "B",
        "Monday",
        r"\text{no solution}",
        "1e-05",
        "x^{\\prime}+r x=0",
    ]
    assert all(map(is_readable, golds))
    assert not any(map(is_readable, ["np.arcsin(10/13)", r"5 \foo", "1, 2, \\ldots, 10"]))


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
def test_a_megabyte_is_wrong_within_the_time_limit(response: str):
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


def test_an_endless_item_is_late_and_the_items_after_it_are_graded():
    items = [rf"\boxed{{{text}}}" for endless in ENDLESS for text in (endless, r"\frac{36}{2}")]
    with VerifierPool(FACTORY, {}, time_limit_s=0.5) as pool:
        verdicts = pool.grade([{"response": response, "gold": "18"} for response in items])
    assert [verdict.score for verdict in verdicts] == [0.0, 1.0] * len(ENDLESS)
    assert [verdict.error for verdict in verdicts] == ["timeout", None] * len(ENDLESS)


def test_a_worker_reads_outside_a_box_only_if_configured():
    items = [{"response": "The answer is 18.", "gold": "18"}]
    for extraction, score in (("boxed", 0.0), ("stated", 1.0)):
        with VerifierPool(FACTORY, {"extraction": extraction}) as pool:
            assert pool.grade(items) == [Verdict(score)]


# Verdicts that differ from the published ones for questions about images, and why.
OWN_VERDICTS = {
    # Words and letters of choices are compared in any case.
    ("a", "A"): True,
    ("Red", "red"): True,
    # One of two percent signs may be missing.
    ("50%", "50"): True,
    # More than the answer is no answer: the published reader takes what it can parse.
    ("A.One", "A"): False,
    ("a red car", "red car"): False,
}


@pytest.mark.parametrize("case", json.loads((GOLDEN / "equality.json").read_text()))
def test_verdicts_are_the_published_ones_except_those_of_a_list(case: dict[str, str]) -> None:
    pair = case["prediction"], case["answer"]
    found = is_equal(rf"\boxed{{{case['prediction']}}}", case["answer"])
    assert found == OWN_VERDICTS.get(pair, case["equal"])
    assert OWN_VERDICTS.get(pair) != case["equal"]


@pytest.mark.parametrize(
    "answer",
    [
        *("yes", "Yes", "YES.", "y", "Y", "**yes**", r"\text{Yes}", r"\textbf{(yes)}", "Yes!"),
        *('"yes"', '"Yes."', "'yes'", "`yes`", "\u201cYes\u201d", "$yes$"),
    ],
)
def test_yes_is_found_in_its_spellings(answer: str) -> None:
    assert is_equal(rf"So \boxed{{{answer}}}.", "yes") == 1.0
    assert is_equal(rf"So \boxed{{{answer}}}.", r"\text{Yes}") == 1.0
    assert is_equal(rf"So \boxed{{{answer}}}.", "no") == 0.0


@pytest.mark.parametrize(
    ("gold", "answers"),
    [
        (
            "yes",
            ["yes/no", "yes or no", "yes, no", "yes no", "y/n", "yn", "not yes", "sey", "s e y"],
        ),
        ("yes", ["no", "n", "", "yes yes", "y e s or n o", "yess", "The answer is yes", "'", "x"]),
        ("no", ["on", "o n", "o \\cdot n", "not", "none", "yes", "no, yes", "n y", "know", "0"]),
        ("on", ["no", "No.", r"\text{no}"]),
        ("n", ["no"]),
        (
            "A",
            ["A, B, C, D", "A or B", "A/B", "AB", "A and B", "A = B", "not A", "all", r"\{A, B\}"],
        ),
        ("A", ["A, A", "ABCD", "A|B", r"A \text{ or } B", r"\pm A", "1", "", "A?", "?"]),
        ("left", ["left right", "left or right", "left/right", "right", "not left", "fetl", "l"]),
        ("3", ["3 or 4", "3,4", "3-4", "3/4", "2, 3", r"3\pm1", "1,2,3,4", "3.5", "<3", "33"]),
    ],
)
def test_an_answer_to_a_question_about_an_image_is_not_paid_for_hedging(
    gold: str, answers: list[str]
) -> None:
    paid = [answer for answer in answers if is_equal(rf"\boxed{{{answer}}}", gold)]
    assert not paid
