r"""Finds the answer in a response.

A response is the whole text of the model; the answer is the part that is graded. It is the last
`\boxed{...}` or `\fbox{...}`, or `<answer>...</answer>` if the prompt asks for it. A box may lack its
braces around a number, a fraction or a capital letter. A box without a closing brace does not count: the
response was truncated there. A response without either is its own answer. If a task allows answers
outside a box, `stated_answer` and `last_value` find them.

Every search takes linear time, because a response is foreign text: a megabyte of opening braces must not
block the process.
"""

import re
from itertools import pairwise, takewhile
from typing import NamedTuple

# The look-behind and the possessive repeats keep the time linear for a long run of backslashes. Any
# other backslash escapes the character after it.
BOX = r"(?<!\\)\\++(?:boxed|f(?:rame)?box)"
# The formula after a box without braces, up to the next space or punctuation; `\boxed Box` has none.
GROUP = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*+\})*+\})*+\}"
BARE = (
    r"[-+\u2212]?(?:(?=[\d.\\]|[A-Za-z](?![A-Za-z])))"
    rf"(?:\\[dt]?frac\s*\d\s*\d|\\(?!boxed|f(?:rame)?box)(?:[A-Za-z]++|%)|{GROUP}|[\w^!%/*+-]|[.,](?=\d))++"
)
TOKEN = re.compile(
    rf"(?P<box>{BOX}\s*+\{{)|{BOX}\s*+(?P<bare>{BARE})|\\.|(?P<opening>\{{)|(?P<closing>\}})",
    re.DOTALL,
)
OPEN_TAG, CLOSE_TAG = "<answer>", "</answer>"
# Text allowed between two boxes of one list: separators, delimiters, labels.
LINK = re.compile(
    r"(?:\n\s*[-*]\s|[\s$,;:.&{}]|\*\*|\\[,;()\[\]\\]|\\(?:q?quad|lor|vee|text)\b|[A-Za-z](?:_\{?\w\}?)?\s*&?=|\(?\d[.)]|"
    r"\b(?:and|or|as well as|also|the|either|other|another|one|first|second|third|smaller|larger|is|are|"
    r"solutions?|roots?|values?)\b)*+",
    re.IGNORECASE,
)
LONGEST_LINK, SEARCHED = 60, 300

# Emphasis, and separators of thousands; but `2**3` is a power, `x_1` a subscript.
MARKUP = re.compile(
    r"(?<![\w)\]}\\])(?:\*\*|__?)(?=[\w$*(\\-])|(?:\*\*|(?<=\S)__?)(?![\w{(\\])|`|</?(?:b|i|u|em|strong)>|\\!|"
    r"(?<=\d)(?:\\[,;: ]|\{,\}|[ ~\u00a0\u2009\u202f])(?=\d{3}(?!\d))"
)
FORMULA = re.compile(
    r"\$\$([^$]+)\$\$|(?<![\\$])\$([^$\n]+)\$|\\\[([^\\]*+(?:\\[^\]][^\\]*+)*+)\\\]|"
    r"\\\(([^\\]*+(?:\\[^)][^\\]*+)*+)\\\)"
)
ROOT = r"(?:\\?\bsqrt(?:\{[^{}]*+\}|\([^()]*+\))|\\?\bpi\b|\u03c0|\u221a\d+)"
NUMBER = (
    r"[-+(]*+[$\u00a3\u20ac]?(?:(?:\d+(?:,\d+)*+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?|"
    rf"\\[dt]?frac\{{[^{{}}]*+\}}\{{[^{{}}]*+\}}|{ROOT})[)!]*+"
)
OPERATOR = r"\s*+(?:[-+*/^:\u00d7\u00f7]|\\times|\\cdot|\bto\b)\s*+"
TERM = rf"{NUMBER}(?:{OPERATOR}{NUMBER}|\s*+{ROOT})*+(?:\s*+(?:\\?%|per ?cent|hundred|thousand|million|billion)\b)?"
JOINT = r"\s*+(?:,\s*+(?:(?:and|or)\b)?|\b(?:and|or)\b)\s*+"
VALUE = re.compile(rf"(?<![\w.\\{{]){TERM}(?:{JOINT}{TERM})*+")
# A word, or a unit after a number; letters of a formula are neither.
WORD = re.compile(r"(?<![A-Za-z\\])(?!(?:sqrt|pi)\b)[A-Za-z]{2,}(?!\s*\{)|(?<=\d)\s+[mgshlNJWKVA]$")
MARK = re.compile(
    r"\banswers?\b(?:(?!\.\s)[^\n]){0,100}?(?:\b(?:is|are|be|equals)\b(?!\s+not\b):?|[:=]|\n)|\banswer\b(?=\s+[-$\d\\(])"
    # GSM8K: a line that is `#### 42`; a heading has words.
    r"|(?m:^####(?=[ \t]*[-+]?\$?\d[\d,]*(?:\.\d+)?%?[ \t]*\.?$))",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"\.(?=\s|$)|\n")


class Box(NamedTuple):
    """A closed box: its begin and end in the text, and its content."""

    begin: int
    end: int
    content: str


def closed_boxes(text: str) -> list[Box]:
    """Return the closed boxes of a text, in the order of their contents; escaped braces do not count."""
    # Begin of each open box and of its content; -1 for any other brace.
    opened: list[tuple[int, int]] = []
    found: list[tuple[int, Box]] = []
    for token in TOKEN.finditer(text):
        match token.lastgroup:
            case "box":
                opened.append((token.start(), token.end()))
            case "bare":
                found.append((token.start("bare"), Box(token.start(), token.end(), token["bare"])))
            case "opening":
                opened.append((-1, -1))
            case "closing" if opened:
                begin, start = opened.pop()
                if begin >= 0:
                    found.append((start, Box(begin, token.end(), text[start : token.start()])))
            case _:  # an escaped character, or a closing brace without an opening one
                pass
    return [box for _, box in sorted(found)]


def last_boxed(text: str) -> str | None:
    r"""Return the content of the last closed `\boxed{...}`, or None."""
    boxes = closed_boxes(text)
    return boxes[-1].content if boxes else None


def joined_boxes(text: str, count: int) -> str | None:
    """Return the last `count` boxes as one list, if only separators and labels are between them."""
    boxes = closed_boxes(text)[-count:]
    between = [text[one.end : other.begin] for one, other in pairwise(boxes)]
    is_list = all(len(link) <= LONGEST_LINK and LINK.fullmatch(link) for link in between)
    return ", ".join(box.content for box in boxes) if is_list and len(boxes) == count else None


def stated_answer(text: str, is_words: bool = False) -> str | None:
    """Return the formula or number after the last "answer is", "answer:", "####" or similar.

    Args:
        text: a response, or its end.
        is_words: the answer is words, so the whole sentence is returned.
    """
    text = MARKUP.sub("", text)
    for mark in reversed(list(MARK.finditer(text))):
        rest = text[mark.end() : mark.end() + SEARCHED].lstrip(" \n:#*")
        end = SENTENCE_END.search(rest)
        sentence = rest[: end.start()] if end else rest
        found = sentence if is_words else _first_value(rest, sentence)
        if found:
            return found
    return None


def last_value(text: str) -> str | None:
    """Return the last formula or number of a text; a text without words is one itself."""
    text = MARKUP.sub("", text)
    if not WORD.search(text):
        return text.strip() or None
    numbers = [(found.end(), found[0]) for found in VALUE.finditer(text)]
    formulas = [(found.end(), found[found.lastindex or 0]) for found in FORMULA.finditer(text)]
    formulas = [(end, body) for end, body in formulas if not WORD.search(body)]
    return max([*numbers, *formulas], default=(0, None))[1]


def _first_value(rest: str, sentence: str) -> str | None:
    """Return the first formula of the sentence, with those joined to it; else the first number."""
    formulas = [f for f in FORMULA.finditer(rest) if f.start() < len(sentence)]
    bodies = [found[found.lastindex or 0] for found in formulas]
    # `$18 and then $` contains two prices, not a formula.
    if formulas and not WORD.search(bodies[0]):
        links = [rest[one.end() : other.start()] for one, other in pairwise(formulas)]
        joined = list(takewhile(re.compile(JOINT).fullmatch, links))
        percent = "%" if rest[formulas[0].end() :].lstrip().startswith(("%", "\\%")) else ""
        return ", ".join(bodies[: len(joined) + 1]) + percent
    if not WORD.search(sentence):
        return sentence.strip(" *") or None
    value = VALUE.search(sentence, sentence.rfind("=") + 1) or VALUE.search(sentence)
    return value[0] if value else None


def answer_from_response(response: str) -> str:
    """Return the last boxed part of the last tagged part, as far as there are any, without outer space."""
    # The last opening tag that a closing tag follows, and the text up to the first of those.
    start = response.rfind(OPEN_TAG, 0, max(response.rfind(CLOSE_TAG), 0))
    text = response[start + len(OPEN_TAG) :].partition(CLOSE_TAG)[0] if start >= 0 else response
    boxed = last_boxed(text)
    return (text if boxed is None else boxed).strip()
