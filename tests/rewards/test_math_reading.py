r"""Texts that are one formula, parts that may be missing, texts that are no formula, and answers of words."""

import pytest

from unmask.rewards.math_comparison import is_same
from unmask.rewards.math_reading import plain_words, read, squeezed, tidy


def are_same(one: str, other: str) -> bool:
    """Whether two texts are read as equal formulas, in both orders."""
    formulas = read(one), read(other)
    assert formulas[0] and formulas[1], f"{one} or {other} cannot be read"
    assert is_same(*formulas) == is_same(*reversed(formulas))
    return is_same(*formulas)


@pytest.mark.parametrize(
    "spellings",
    [
        # powers of ten
        (
            "4.5e7",
            "4.5E7",
            "4.5e+07",
            r"4.5\mathrm{e}7",
            r"4.5\text{e7}",
            r"4.5 \mathrm{E} {7}",
            "4.5\N{MULTIPLICATION SIGN}10\N{SUPERSCRIPT SEVEN}",
            r"4.5\times10^{7}",
            r"4.5 \cdot 10^7",
            "4.5 x 10^7",
        ),
        (
            "45000000",
            "4.5e7",
            "45,000,000",
            r"45{,}000{,}000",
            r"45\,000\,000",
            "45 000 000",
            "4.5*10**7",
        ),
        ("1e-05", "0.00001", r"0.000\,01", "10^{-5}", "10^-5", r"\frac{1}{10^5}"),
        ("5e-324", "5.0E-324", r"5\times 10^{-324}"),
        ("(1000, 0.02)", "(1e3, 2e-2)"),
        # constants
        (
            "e^2",
            r"\mathrm{e}^{2}",
            r"\operatorname{e}^2",
            r"{\rm e}^2",
            r"\text{e}^2",
            r"\mathrm e^2",
        ),
        (
            r"\frac{e}{2}",
            r"\frac{\rm e}{2}",
            r"\frac{\rm{e}}{2}",
            r"\frac{\mathrm e}{2}",
            r"\frac12\rm e",
        ),
        (r"\ln 2", "ln(2)", r"\operatorname{ln}2", r"\mathrm{ln}\,2"),
        (r"\sqrt{\frac{\lambda}{2}}", r"\sqrt\frac{\lambda}{2}", r"\frac{\sqrt\lambda}{\sqrt2}"),
        (r"v_{\text{max}}", r"v_\mathrm{max}", "v_{max}"),
        (r"1-\frac{1}{\mathrm{e}}", r"1-\frac1e", "1-e^{-1}"),
        ("2e+1", "1+2e", r"2\cdot\mathrm{e}+1"),
        ("3+4i", r"3+4\mathrm{i}", r"3+4\mathrm i", r"3+4\imath", "4i+3", "3 + 4 i", "3.0+4.0i"),
        (r"2\pi", r"2\mathrm{\pi}", "2pi", "2\N{GREEK SMALL LETTER PI}"),
        (r"\infty", "inf", "infinity"),
        # fractions and products
        (r"\frac{7}{2}", r"3\frac{1}{2}", "3 1/2", "7/2", r"\dfrac72", "3.5", "3.5."),
        (r"-\frac{7}{2}", r"-3\frac12", r"\frac{-7}{2}"),
        ("18", "2(9)", "(2)(9)", r"2\cdot 9", r"\frac{6}{2}(6)", r"2\left(9\right)"),
        ("3", r"2\frac{3}{2}"),
        ("30", r"\binom{5}{2}\binom{3}{1}", r"3\binom{5}{2}"),
        ("1/3", r"0.\overline{3}", r"0.\bar{3}"),
        ("1/6", r"0.1\overline{6}"),
        ("8", "2**3", "2^3", r"\sqrt{64}", "sqrt(64)", "\N{SQUARE ROOT}64"),
        (r"\log_2 8", "3"),
        # bases and indices
        ("4.5e7", "4.5 \u00d7 10\u2077"),
        ("1101_2", "1101\u2082"),
        ("x_1", "x\u2081"),
        (r"\sqrt{2}", "\u221a2", "\u221a(2)"),
        (r"\ln 2", "ln 2", "ln(2)", r"\mathrm{ln} 2", r"\operatorname{ln}(2)"),
        ("e_1", "e_{1}"),
        (
            "2516_8",
            "2516_{8}",
            "(2516)_8",
            "[2516]_8",
            "{2516}_8",
            "02516_8",
            "0o2516",
            "2516\N{SUBSCRIPT EIGHT}",
            r"2516\_8",
            "2516_{(8)}",
            "2516 base 8",
            "2516 (base eight)",
            r"2516_{\text{eight}}",
            r"2516_\text{eight}",
            r"2516_{\text{base }8}",
            r"2516\text{ (base 8)}",
            r"\text{2516}_8",
            r"\overline{2516}_8",
            r"\left(2516\right)_{8}",
        ),
        (
            "1A_{16}",
            "1a_{16}",
            "(1A)_{16}",
            "0x1a",
            r"1\text{A}_{16}",
            r"\text{1A}_{\text{sixteen}}",
        ),
        ("FF_{16}", "ff_{16}", "0xFF", r"\text{FF}_{16}"),
        ("1011_2", "0b1011"),
        ("1011_{10}", "1011", r"1011\text{ (base ten)}"),
        ("E_1", "E_{1}", r"\text{E}_1", r"\mathrm{E}_{1}"),
        ("2E_3", r"2\cdot E_{3}"),
        ("x_1^2", "x^2_1", "x_{1}^{2}"),
        (r"a^{T}", r"a^T"),
        # percent
        (
            "12.5\\%",
            "12.5%",
            r"12.5 \%",
            r"12.5\text{ percent}",
            "12.5 percent",
            r"\frac{25}{2}\%",
            r"12\frac12\%",
        ),
        # words
        ("5000000", r"5\text{ million}", "5 million", r"5\text{ million dollars}"),
    ],
)
def test_spellings_of_one_formula(spellings: tuple[str, ...]):
    assert [text for text in spellings if not are_same(text, spellings[0])] == []


@pytest.mark.parametrize(
    "answer",
    [
        r"5\text{ cm}",
        r"5\text{ cm}^2",
        r"5 \mathrm{~m} / \mathrm{s}^{2}",
        r"5\,\mathrm{kg}",
        "5 cm",
        "5 miles",
        "5 miles per hour",
        "5 square units",
        "5 cm^2",
        r"5\text{ apples}",
        r"5\text{ m/s}",
        r"\$5.00",
        "$5",
        "5 dollars",
        r"5^\circ",
        r"5^{\circ}",
        r"5\text{ degrees}",
        "5\N{DEGREE SIGN}",
        r"5\textbf{ km}",
        "x=5",
        r"x = 5\text{ cm}",
        r"\displaystyle 5",
        r"\left(5\right)",
        r"\mathbf{5}",
        r"\underline{5.0}",
        r"\text{5 cm}",
        "5\N{DEGREE SIGN}C",
        r"\text{Answer: }5",
        "Final answer = 5",
        "{5}",
        "5.",
        "+5",
    ],
)
def test_parts_that_may_be_missing(answer: str):
    assert are_same(tidy(answer), "5")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # a letter is a factor, not a unit
        ("5 t", "5"),
        ("100 m", "100"),
        (r"\frac{1}{m} t", r"\frac{1}{m}"),
        ("5x", "5"),
        (r"5\mathrm{i}", "5"),
        (r"x\text{ cm}", "x"),
        (r"\frac{R}{r}", "1"),
        (r"\gamma", r"\Gamma"),
        ("5 ab", "5"),
        # the number is another
        (r"5\text{ million}", "5"),
        (r"5\text{ or }6", "5"),
        (r"\text{not }5", "5"),
        ("17(1)", "18"),
        ("2(3)", "5"),
        # bases, indices, primes, transposition
        ("2516_8", "2516_7"),
        ("2516_8", "2516"),
        ("2516_8", "1358"),
        ("0b1011", "0b1010"),
        ("0x1A", "0x1B"),
        ("2516 base 8", "2516 base 7"),
        (r"\overline{2516}_8", r"\overline{2516}_7"),
        ("AB_{12}", "AB_{13}"),
        ("C_1e^x", "C_2e^x"),
        ("0.1_2", "0.1_3"),
        ("0.1_2", "0.1"),
        ("11_2+1_2", "11_2+1_3"),
        ("101_b", "101_c"),
        ("1A_{16}", "1A_{12}"),
        ("1A_{16}", "1B_{16}"),
        (r"\frac{2}{3}E_2", r"\frac{2}{3}E_3"),
        (r"\frac{2}{3}E_2", r"\frac{2}{3}"),
        ("I_0", "I_1"),
        ("e_1", "e_2"),
        (r"\hat{x}_1", r"\hat{x}_2"),
        ("f_1(x)", "f_2(x)"),
        (r"\log_2 3", r"\log_3 2"),
        ("2E_3", "2E_4"),
        ("x_1", "x_2"),
        ("x_1", "x"),
        ("x_{ij}", "x_{ik}"),
        (r"v_0", r"v_{\text{max}}"),
        ("x^2_1", "x^2_2"),
        (r"\sum_{i=1}^{5} i", r"\sum_{i=1}^{6} i"),
        ("y'", "y"),
        ("y''", "y'"),
        ("5^T", "5"),
    ],
)
def test_nothing_is_dropped_that_has_a_meaning(one: str, other: str):
    assert not are_same(one, other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        r"5 \foo",
        r"\foo\frac{1}{2}",
        "5 ? 6",
        r"5 \& 6",
        r"\frac{18",
        "5)",
        "np.arcsin(10/13)",
        "Thus the mean is 5",
        "18 18",
        "@@ 18",
        r"1, 2, \ldots, 10",
        "1,2,...,10",
        r"e^{2}_7",
        r"(a+b)^2_7",
        r"\sin_7 x",
        "5_{a+b}",
        "(" * 40 + "5" + ")" * 40,
        r"\frac{1}{" * 40 + "5" + "}" * 40,
        r"\text{" * 40 + "5" + "}" * 40,
    ],
)
def test_a_text_that_cannot_be_read_as_a_whole_is_no_formula(text: str):
    assert read(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Monday", "monday"),
        (r"\text{No solution.}", "nosolution"),
        (r"\textbf{(B) }", "b"),
        ("(B)", "b"),
        ("y'", None),
        ("n!", None),
        ("3 apples", None),
        (r"\sin x", None),
        ("", None),
    ],
)
def test_words(text: str, words: str | None):
    assert plain_words(text) == words


def test_the_text_without_spaces_and_sizes():
    assert squeezed(r"$\dfrac{a}{b}\, \left( ? \right)$") == squeezed(r"\frac{a}{b}(?)")
    assert squeezed("5 ? 6") != squeezed("5 ? 7")
    assert squeezed("1 2") != squeezed("12")
    assert squeezed("3 1/2") != squeezed("31/2")
