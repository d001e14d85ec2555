r"""Parses the text of an answer into a SymPy expression.

`latex2sympy2_extended`, the grammar that `math-verify` uses, parses a formula as a whole or refuses it;
no part of a refused text counts. Three kinds of rewriting come before and after the grammar:

    spelling   several notations become one: `9{,}500`, `4.5e7`, `\mathrm{e}`, `0.\overline{3}`
    units      optional parts are dropped: `\$`, `^\circ`, `\text{ cm}`; never a letter of a formula
    meaning    parts that the grammar drops or misreads are kept: bases, primes, capital E and I, `2(3)`
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import inf
from typing import Any, cast

from latex2sympy2_extended import NormalizationConfig, convert_to_pct, latex2sympy, normalize_latex
from latex2sympy2_extended.latex2sympy2 import ConversionConfig

from unmask.rewards.answers import GROUP

Rewrite = tuple[str, str | Callable[[re.Match[str]], str]]

SYMBOLS = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2013", "-"),
        **dict.fromkeys("\u00a0\u2009\u202f\t\n~", " "),
        **dict.fromkeys("\u00b7\u22c5", r"\cdot "),
        "\u00d7": r"\times ",
        "\u00f7": r"\div ",
        "\u00b0": r"^\circ ",
        "\u221e": r"\infty ",
        "\u222a": r"\cup ",
        "\u2264": r"\le ",
        "\u2265": r"\ge ",
        "\u2260": r"\ne ",
        "\u03c0": r"\pi ",
        "\u00b1": r"\pm ",
        "\u2208": r"\in ",
        "\u2248": r"\approx ",
        "\u2205": r"\emptyset ",
        "\u2032": "'",
    }
)
UPRIGHT = r"\\(?:(?:text|math)(?:rm|bf|it|sf|normal)?|mbox|operatorname\*?|bm|boldsymbol|underline|emph)\s*"
FUNCTIONS = r"(?:a?(?:rc)?(?:sin|cos|tan|sec|csc|cot)h?|exp|ln|log|max|min|gcd|lcm|det)"
FENCES = (
    *(r"\$\$(.*)\$\$", r"\$([^$]*)\$", r"\\\((.*)\\\)", r"\\\[(.*)\\\]", r"\*\*(.*)\*\*"),
    rf"{UPRIGHT}\{{((?:[^{{}}]|{GROUP})*+)\}}",
)
SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
NUMERALS = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
)
BASES = {name: str(base) for base, name in enumerate(NUMERALS.split(), start=2)}
PREFIXES = {"b": 2, "o": 8, "x": 16}
BASE = rf"(?:in\s+)?\bbase[\s~-]*(\d+|{'|'.join(BASES)})\b"
# Above base ten a digit may be a letter, but not the only one, so `2E_3` and `A_1` are not numbers.
DIGITS = (
    r"\d[\d.]*|(?:\d[\dA-Fa-f]*|[A-Fa-f][\dA-Fa-f]+)"
    r"(?=(?:\s|\\right|[)\]}])*_\s*\{?\s*(?:1[1-6]|eleven|twelve|\w+teen)\b)"
)
# Groups of three digits, before or after the point; a number with a power of ten; a function.
GROUPED_DIGITS = r"(?:(?<![\d.])\d{1,3}(?:(?:\{,\}|\\[,;: ]| )\d{3})+|(?<=\.)\d{3}(?:(?:\\[,;: ]| )\d{1,3})+)(?!\d)"
POWER = rf"(?<![\w.^])(\d+(?:\.\d*)?|\.\d+)(?:[eE]|\s*{UPRIGHT}\{{[eE]\}}\s*)\{{?(-?\d{{1,9}}|\+\d{{2,9}})\}}?(?![\w.])"
FUNCTION_NAME = rf"(?<!_)(?<!_\{{)(?:{UPRIGHT}\{{\s*({FUNCTIONS})\s*\}}|(?<![A-Za-z\\{{])({FUNCTIONS})(?![a-z]))"
# The name of a base, or digits before one; and a base as a subscript.
BASE_TEXT = rf"{UPRIGHT}\{{([\s(]*(?:in\s+)?(?:base\b)?[\s(]*(?:\d*|{'|'.join(BASES)})[\s)]*|[\dA-Fa-f]+(?=\}}\s*_))\}}"
SUBSCRIPT = (
    r"(?<=[\dA-Fa-f)\]}])\s*\\?_\s*(?:\{[\s(]*(\w+)[\s)]*\}|\(\s*(\w+)\s*\)|(\d+|[A-Za-z]+))"
)


def _repeating(match: re.Match[str]) -> str:
    whole, once, again = match.groups()
    numerator = int(whole + once + again) - int(whole + once)
    return rf"\frac{{{numerator}}}{{{(10 ** len(again) - 1) * 10 ** len(once)}}}"


def _in_base(match: re.Match[str]) -> str:
    digits = (match[1] or match[2]).upper().lstrip("0") or "0"
    base = BASES.get(match[3], match[3])
    return digits if base == "10" else rf"\text{{{digits} base {base}}}"


def _raised(match: re.Match[str]) -> str:
    index = unicodedata.normalize("NFKC", match[0]).replace("\N{MINUS SIGN}", "-")
    return f"{'^' if match[1] else '_'}{{{index}}}"


def _mixed(match: re.Match[str]) -> str:
    whole, top, bottom = match.groups()
    # 2 1/2 is a mixed number; a number before an improper fraction is a factor.
    sign = "+" if int(top) < int(bottom) else r"\cdot "
    return rf"({whole}{sign}\frac{{{top}}}{{{bottom}}})"


SPELLING: tuple[Rewrite, ...] = (
    (r"\\displaystyle|\\limits|\\[bB]igg?[lrm]?(?![a-z])|\\!", ""),
    (r"([\u2070-\u207b\u00b9\u00b2\u00b3]+)|[\u2080-\u208b]+", _raised),
    (GROUPED_DIGITS, lambda m: re.sub(r"\D", "", m[0])),
    (r"\{,\}", ","),
    (r"(?<!\\)\\(?:[,;:> ]|q?quad\b|thinspace\b|hspace\*?\{[^{}]*\})", " "),
    (r"(?:(?<=frac)|(?<=sqrt)|(?<=[_^]))(\{)\\(?:rm|bf|it)\s+([^{}]*\})", r"\1\\text\1\2}"),
    (r"\{\\(?:rm|bf|it)\s+([^{}]*)\}|\\(?:rm|bf|it)\s*\{([^{}]*)\}", r"\\text{\1\2}"),
    (rf"\\(?:rm|bf|it)\b|{UPRIGHT}(?:(?=\\)|(?<=\s)(?=[A-Za-z](?![A-Za-z])))", ""),
    (rf"(?i:^({UPRIGHT}\{{)?\s*(?:the\s+)?(?:final\s+)?answer\b(?:\s|is\b|[:=])*)", r"\1"),
    (rf"{UPRIGHT}\{{\s*\}}", " "),
    (r"\\imath\b", "i "),
    (r"\\[dt]?frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    (rf"\\sqrt\s*(\\[dt]?frac{GROUP}{GROUP}|\\(?!left)[A-Za-z]+)", r"\\sqrt{\1}"),
    (r"\\\$|\\(?:pounds|euro)\b|[$\u00a3\u20ac]", ""),
    (rf"{UPRIGHT}\{{\s*({'|'.join(SCALES)})\b", r" \1\\text{"),
    (rf"(?<=[\d\s}}])({'|'.join(SCALES)})\b", lambda m: rf"\times10^{{{SCALES[m[1]]}}}"),
    (rf"{UPRIGHT}\{{\s*(?:per ?cent|pct|\\?%)\s*\}}|\bper ?cent\b", r"\\%"),
    (r"(?<=\d)\s+(?=\\?%)", ""),
    (r"\^\s*\{?\s*\\(?:circ|degree)\b\s*\}?(?:\s*[CF]\b)?|\\degree\b", ""),
    (rf"(?<=\d){UPRIGHT}\{{([eE][-+]?\d+)\}}", r"\1"),
    (POWER, lambda m: rf"({m[1]}\times10^{{{int(m[2])}}})"),
    (r"(?<=[\d.])\s*[xX]\s*(?=10\s*\^)", r"\\times "),
    (r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{(\d+)\}", _repeating),
    (r"(?<=\d)\.(?!\d)", ""),
    (r"(?<![\d./])(\d+)\s+(\d+)/(\d+)(?![\d/])", r"\1\\frac{\2}{\3}"),
    (r"\*\*", "^"),
    (r"\^\s*(-\s*\d+)", r"^{\1}"),
    (FUNCTION_NAME, r"\\\1\2 "),
    (r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi "),
    (r"(?:\\?\bsqrt|\u221a)\s*\(([^()]*)\)|\u221a\s*(\d+|\w)", r"\\sqrt{\1\2}"),
    (r"\\(leq|geq|le|ge)slant\b", r"\\\1 "),
    (r"[A-Za-z]\s*=\s*(?=\\pm\b)", ""),
    (r"\\varnothing\b", r"\\emptyset "),
    (r"^\s*(?:\\approx\b|\\sim\b|=|:)", ""),
)
MEANING: tuple[Rewrite, ...] = (
    (rf"(?<=\d){UPRIGHT}\{{([\dA-Fa-f]+)\}}(?=\s*_)", r"\1"),
    (BASE_TEXT, r" \1 "),
    (rf"_\s*\{{[\s(]*{BASE}[\s)]*\}}|\(\s*{BASE}\s*\)|{BASE}", r"_{\1\2\3}"),
    (SUBSCRIPT, r"_{\1\2\3}"),
    (r"(?<![\w.])0([box])([\dA-Fa-f]+)(?!\w)", lambda m: f"{m[2]}_{{{PREFIXES[m[1]]}}}"),
    # The grammar drops the subscript of a number.
    (
        rf"(?<![\w.^_)}}\\])(?:(?:\\overline\s*|\\left\s*)?[(\[{{]\s*({DIGITS})\s*(?:\\right\s*)?[)\]}}]|({DIGITS}))"
        r"\s*_\{(\w+)\}",
        _in_base,
    ),
    (rf"_\s*{UPRIGHT}\{{\s*(\w+)\s*\}}|_\s*\{{\s*{UPRIGHT}\{{\s*(\w+)\s*\}}\s*\}}", r"_{\1\2}"),
    (r"'+", lambda m: "^{" + r"\prime " * len(m[0]) + "}"),
    (rf"{UPRIGHT}\{{\s*(\\[A-Za-z]+|[A-Za-z]|[\d.,]+)\s*\}}", r" \1 "),
    (r"\\(gamma|Gamma)\b(?!\s*\()", r"\\text{letter \1}"),
    (r"\^\s*(?:T\b|\{\s*(?:T|\\top)\s*\})", r"^{\\text{T}}"),
    # The grammar reads E alone as a power of ten and I as the imaginary unit, and drops a subscript of e.
    (
        rf"({UPRIGHT}\{{[^{{}}]*\}}|\\[A-Za-z]+)|([EI]|e(?=\s*_))",
        lambda m: m[1] or rf"\text{{{m[2]}}}",
    ),
)
# The grammar adds an integer to a fraction, bracket or binomial after it; it is a factor.
PRODUCTS: tuple[Rewrite, ...] = (
    (r"(?<![\d.^_])(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}", _mixed),
    (rf"((?<![\d.^_])\d+|\)|\\(?:frac|binom){GROUP}{GROUP})\s*(?=\(|\\frac|\\binom)", r"\1\\cdot "),
    (rf"(\)|\\(?:frac|binom){GROUP}{GROUP})\s*(?=\d)", r"\1\\cdot "),
)
UNIT = (
    r"(?:(?:square|cubic|sq|cu|per)\b\.?|[cmk]m|[mk]g|ml|ft|lbs?|oz|in|mph|kmh|hrs?|mins?|secs?|[kM]?Hz|"
    r"inch(?:es)?|f(?:oo|ee)t|(?:unit|yard|mile|pound|ounce|dollar|cent|degree|radian|hour|minute|second|day|week|"
    r"month|year|(?:kilo|centi|milli)?(?:met(?:er|re)|gram)|lit(?:er|re)|point|people|student)s?)"
    r"(?:\^?\{?[23]\}?)?"
)
UNITS = (
    rf"(?<![_^])(?:[\s/]*(?:\\cdot\s*|\\mu\s*)?{UPRIGHT}\{{([A-Za-z\s./^23\-]*)\}}(?:\^\{{?-?\d\}}?)?)+$",
    rf"(?<=[\d}}\)\s])(?:[\s/]*(?<![A-Za-z\\]){UNIT}(?![A-Za-z]))+$",
)
# An upright letter is a unit only if such a unit exists; `3\mathrm{i}` is a number.
NO_UNIT = re.compile(
    r"^\s*[^msghlLNJWKVACFT\s]\s*$|\b(?:and|or|not|to|than|if|for|when|least|most|more|less|base|dozen|mod|"
    r"sin|cos|tan|log|ln|exp|sqrt|pi)\b",
    re.IGNORECASE,
)
FREE_LETTER = re.compile(r"(?<![A-Za-z\\])(?!(?:e|i)\b)[A-Za-z]")
# Parsing time doubles with every few levels of nested brackets.
DEEPEST = 12
# The grammar reads words as products of letters.
WORD = re.compile(
    rf"{UPRIGHT}\{{[^{{}}]*\}}|\\(?:begin|end)\{{[^{{}}]*\}}|\\[A-Za-z]+|infinity|(?P<word>[A-Za-z][a-z]{{3,}})"
)
# Ellipses, adjacent numbers, and subscripts that the grammar drops.
UNREADABLE = re.compile(
    r"\\[lcvd]?dots|\.\.\.|\u2026|(?<![_^\d.])\d[\d.]*\s+[\d.]|(?<![A-Za-z\\_^\d.])[\d.]+\s*_|"
    rf"(?:[)\]}}\d]|(?<![A-Za-z\\])e)\s*\^\s*(?:\w|{GROUP})\s*_|"
    rf"\\(?!ln|log){FUNCTIONS}\s*(?:\^\s*(?:\w|{GROUP})\s*)?_"
)
# After a formula; the grammar itself reads percentages of plain numbers only.
PERCENT = re.compile(r"(?<=[)}A-Za-z])\s*\\?%$")
GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
DECIMAL = re.compile(r"\d*\.\d+")
WORDS = re.compile(r"[A-Za-z]+(?:['\s.-]+[A-Za-z]+)*+")
NORMAL = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
)


@dataclass(frozen=True, slots=True)
class Formula:
    """A parsed formula.

    Attributes:
        expression: of SymPy, unevaluated; a matrix is no `Basic`.
        digits: significant digits of its longest decimal; infinite if it has no decimal.
    """

    expression: Any
    digits: float


def tidy(text: str) -> str:
    """Return an answer without math delimiters and emphasis around it and without its final full stop."""
    text = text.strip().rstrip(".").strip()
    for fence in FENCES:
        inside = re.fullmatch(fence, text, re.DOTALL)
        text = inside[1].strip().rstrip(".").strip() if inside else text
    return text


def plain_words(text: str) -> str | None:
    r"""Return the letters of an answer of words or of one letter, such as `\textbf{(B)}`, else None."""
    bare = re.sub(rf"{UPRIGHT}(?=\{{)|\\[,;: ]|[{{}}~]", " ", text).strip()
    bare = bare[1:-1] if bare.startswith("(") and bare.endswith(")") else bare
    is_words = WORDS.fullmatch(bare.strip().rstrip("."))
    return "".join(filter(str.isalpha, bare)).casefold() if is_words else None


def squeezed(text: str) -> str:
    """Return a text without math delimiters, sizes, and spaces other than those between digits."""
    text = re.sub(
        r"\\(?:left|right)(?![a-z])|(?<!\\)\\[,;:! ]|\$|(?<!\d)\s|\s(?!\d)",
        "",
        text.translate(SYMBOLS),
    )
    return re.sub(r"\\[dt]frac\b", r"\\frac", text)


@lru_cache(maxsize=4096)
def read(text: str) -> Formula | None:
    """Parse a whole text as mathematics; return None if any part of it cannot be parsed."""
    text = _drop_units(_rewrite(text.translate(SYMBOLS), SPELLING).strip())
    formula, is_percent = PERCENT.subn("", text)
    joined = GROUPED.sub(lambda match: match[0].replace(",", ""), formula)
    text = formula if "," in joined or re.search(r"[(\[]|\\\{", joined) else joined
    digits = max((len(d.replace(".", "").lstrip("0")) for d in DECIMAL.findall(text)), default=inf)
    text = _rewrite(text, MEANING)
    has_words = any(found["word"] for found in WORD.finditer(text))
    if has_words or UNREADABLE.search(text) or _depth(text) > DEEPEST:
        return None
    try:
        text = _rewrite(normalize_latex(text, NORMAL), PRODUCTS)
        # Without the normalisation of the package, and with capitals kept: R/r is not 1.
        expression = latex2sympy(
            text,
            is_real=True,
            normalization_config=None,
            conversion_config=ConversionConfig(lowercase_symbols=False),
        )
        expression = convert_to_pct(cast(Any, expression)) if is_percent else expression
    except Exception:  # the grammar raises Exception itself, and SymPy any error
        return None
    return Formula(expression, digits or inf)


def _rewrite(text: str, rewrites: tuple[Rewrite, ...]) -> str:
    for pattern, replacement in rewrites:
        text = re.sub(pattern, replacement, text)
    return text


def _depth(text: str) -> int:
    steps = (1 if bracket in "([{" else -1 for bracket in re.findall(r"[()\[\]{}]", text))
    return max(accumulate(steps), default=0)


def _drop_units(text: str) -> str:
    """Drop the unit after a number; after a formula nothing is dropped, since a letter may be a factor."""
    for unit in map(re.compile, UNITS):
        found = unit.search(text)
        if found is None or (unit.groups and NO_UNIT.search(found[1])):
            continue
        rest = text[: found.start()].strip()
        if rest and not FREE_LETTER.search(rest.rpartition("=")[2]):
            text = rest
    return text
