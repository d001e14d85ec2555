"""Equal formulas: the tolerance, percents, functions, lists and ordered tuples, conditions and sets."""

import pytest

from unmask.rewards.math_comparison import is_same, num_elements
from unmask.rewards.math_reading import Formula, read


def formula(text: str) -> Formula:
    """Read a text that can be read."""
    found = read(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        # roundings
        ("0.333333", "1/3"),
        ("1/3", "0.3333333"),
        (r"\sqrt{2}", "1.41421356"),
        (r"100\sqrt{2}", "141.4214"),
        ("0.3", "0.30000000000000004"),
        ("3", "2.9999999999999996"),
        (r"\pi\times10^{-12}", r"3.14159265e-12"),
        ("0.3333333", "0.333333333"),
        (r"1.5\pi", r"\frac{3\pi}{2}"),
        ("0.5x", r"\frac{x}{2}"),
        (r"\frac{1}{10^{30}}", r"10^{-30}"),
        (r"\sqrt{5+2\sqrt{6}}", r"\sqrt{2}+\sqrt{3}"),
        # percents
        ("12.5\\%", "12.5"),
        ("12.5\\%", "0.125"),
        ("66.7", "66.7\\%"),
        ("10", "10\\%"),
        (r"33\frac{1}{3}\%", r"\frac{1}{3}"),
        ("(10\\%, 20\\%)", "(10, 20)"),
        ("-3.5\\%", "-3.5"),
        ("x=12.5\\%", "12.5"),
        # functions
        (r"\sqrt{\frac{a}{b}}", r"\frac{\sqrt{a}}{\sqrt{b}}"),
        (r"\sqrt{\frac{a}{b}}", r"\sqrt{a/b}"),
        (r"\sqrt[3]{\frac{a}{b}}", r"\frac{\sqrt[3]{a}}{\sqrt[3]{b}}"),
        (r"\sqrt{x^2}", "|x|"),
        (r"\ln(ab)", r"\ln a+\ln b"),
        (r"\sin^2 x+\cos^2 x", "1"),
        (r"\frac{x^2-1}{x-1}", "x+1"),
        ("-i", r"\frac{1}{i}"),
        (r"e^{i\pi}", "-1"),
        ("2.5-1.5i", r"\frac{5}{2}-\frac{3}{2}i"),
        ("m\\frac{dv}{dt}+bv", "bv+m\\frac{dv}{dt}"),
        ("f(x)+1", "1+f(x)"),
        # lists, sets, points, matrices
        ("3, 5", "5, 3"),
        ("3, 5", r"3 \text{ or } 5"),
        ("3, 5", "x=3, x=5"),
        (r"\pm 5", "-5, 5"),
        (r"\{3, 5\}", r"\{5, 3\}"),
        (r"2\pm\sqrt3", r"2+\sqrt3, 2-\sqrt3"),
        ("(1,2),(3,4)", "(3,4),(1,2)"),
        ("(1, 2)", "1, 2"),
        ("x=3, y=5", "3, 5"),
        (r"2\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\4\end{pmatrix}"),
        (r"\emptyset", r"\varnothing"),
        ("-2", r"\begin{vmatrix}1&2\\3&4\end{vmatrix}"),
        # conditions
        ("x=5", "5"),
        ("5", "x=5"),
        ("18", "9+9=18"),
        ("18", "x=9+9=18"),
        ("2x+3", "f(x)=2x+3"),
        ("y=2x+3", "2x-y+3=0"),
        ("y=2x+3", "2y=4x+6"),
        (r"\log_4(8)=\frac{3}{2}", r"\frac{3}{2}"),
        ("x=3+2=5", "x=5"),
        (r"x=\pm 2", "x=2, x=-2"),
        (r"-9\leqslant x\leqslant 0", "[-9, 0]"),
        (r"\left[\begin{array}{l}1 \\ 0\end{array}\right]", r"\begin{pmatrix}1\\0\end{pmatrix}"),
        ("x>3", "3<x"),
        ("x>3", "2x>6"),
        ("x>3", r"(3,\infty)"),
        (r"(3,\infty)", "x>3"),
        ("1<x<2", "2>x>1"),
        ("1<x<2", "(1,2)"),
        (r"x \in [1,2]", "[1,2]"),
        (r"(-\infty,\infty)", r"\mathbb{R}"),
    ],
)
def test_equal(gold: str, answer: str):
    assert is_same(formula(gold), formula(answer))


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        # no number is too small, and none too large
        (r"6.63\times10^{-34}", r"1.6\times10^{-19}"),
        ("10^{-20}", "10^{-21}"),
        ("1e-300", "1e-301"),
        ("0.0000001", "0.0000002"),
        (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"),
        (r"\frac{2^{2005}+1}{3\cdot 2^{2006}}", r"\frac{1}{3\cdot 2^{2006}}"),
        ("10^{-20}x", "10^{-21}x"),
        ("y=10^{-20}x", "y=10^{-21}x"),
        ("[0, 10^{-9}]", "[0, 10^{-8}]"),
        ("1+10^{-30}", "1"),
        ("(10^{-9}, 1)", "(10^{-8}, 1)"),
        (r"\{10^{-9}\}", r"\{10^{-8}\}"),
        ("3+10^{-9}i", "3+10^{-8}i"),
        ("e^{-100}", "e^{-101}"),
        (r"\sqrt{2}\cdot10^{-30}", r"\sqrt{3}\cdot10^{-30}"),
        ("2^{2005}+1", "2^{2005}"),
        (r"2^{2005}+\sqrt{2}", r"2^{2005}+\sqrt{3}"),
        # the last digit counts
        ("1234567.5", "1234567.6"),
        ("6.02214076e23", "6.02214077e23"),
        ("0.3333333333333333333", "0.3333333333333333334"),
        ("0.33", "1/3"),
        ("3.14", r"\pi"),
        (r"\sqrt{2}", "1.41421357"),
        ("18", "18.0000001"),
        ("1.39e9", "1390000001"),
        # percents
        ("12.5\\%", "1.25"),
        ("12.5\\%", "-12.5"),
        ("66.7\\%", "66.8\\%"),
        ("10", "100\\%"),
        ("0.5", "50"),
        # functions
        (r"\sqrt{\frac{a}{b}}", r"\sqrt{\frac{b}{a}}"),
        ("|x|", "x"),
        ("|x-5|", "5-x"),
        ("|x-5|", "x-5"),
        (r"\sqrt{x^2}", "x"),
        ("n!", "n"),
        ("f(x)", "f(y)"),
        ("2+3i", "2-3i"),
        ("2+3i", "3+2i"),
        ("2+3i", "2+3.1i"),
        ("i", "1"),
        (r"2\frac{dv}{dt}", r"\frac{dv}{dt}"),
        # lists, points, matrices
        ("3, 5", "3"),
        ("3", "3, 5"),
        ("2, 2, 3", "2, 3"),
        (r"\pm 5", "5"),
        ("5", r"\pm 5"),
        ("x=3, y=5", "5, 3"),
        ("(1, 2)", "(2, 1)"),
        ("(1,2),(3,4)", "(2,1),(3,4)"),
        ("(1, 2)", "[1, 2]"),
        ("(1, 2]", "(1, 2)"),
        (r"\emptyset", "0"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix} q"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", "1, 2"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"-\begin{pmatrix}1\\2\end{pmatrix}"),
        # conditions
        ("18", "17=18"),
        ("18", "2x=18"),
        ("x=5", "y=5"),
        (r"\log_4(8)=\frac{3}{2}", r"\log_4(8)=\frac{4}{2}"),
        ("1=1", "2=3"),
        ("x^2=-1", "x^2=-4"),
        ("x>3", "x<3"),
        ("x>3", r"x\ge 3"),
        ("x>3", "-x>-3"),
        ("x>3", "3"),
        ("3", "x>3"),
        ("1<x<2", "1<x<3"),
        (r"(-\infty,0)\cup(0,\infty)", r"(-\infty,0)\cup(1,\infty)"),
        # nothing
        ("0", r"\frac{0}{0}"),
        ("18", r"\infty-\infty"),
        ("0", r"\infty-\infty"),
        (r"\infty", r"-\infty"),
        ("5", "x"),
        ("x", "5"),
    ],
)
def test_not_equal(gold: str, answer: str):
    assert not is_same(formula(gold), formula(answer))
    assert not is_same(formula(answer), formula(gold))


def test_the_length_of_a_list():
    texts = ("3, 5", r"\{1, 2, 3\}", r"\pm 2", "(3, 5)", "7", "[1, 2]")
    assert [num_elements(formula(text)) for text in texts] == [2, 3, 2, 1, 1, 1]
