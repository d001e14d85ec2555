r"""Questions about images with options or a short answer: their wording and their grader.

The wording is that of lmms-eval, with which most published results were measured. The grading is stricter than the
published one where that pays for nothing: a response without a choice is wrong (MMMU's code draws a letter), one that
names several letters is wrong (it takes the last one), and a short answer has to be all of the answer (it searches the
response for the right one).

A choice is the first of: a letter alone (`B`, `(B)`, `B.`); the text of one option; a letter with text (`B. red`) that
is not another option's; the letter of "the answer is B"; the only letter in parentheses or after "option". Letters
are capitals, words may have any case. Only what follows `</think>` is read, and only a box, where there is one
(`rewards.answers`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from unmask.configs.task import DatasetTaskConfig
from unmask.images import MARKER, Image
from unmask.rewards.answers import answer_from_response, stated_answer
from unmask.tasks.dataset import Problem
from unmask.tasks.grader import Grader, math_grader
from unmask.types import Prompt, Score

BY_LETTER = "Answer with the option's letter from the given choices directly."
BY_WORD = "Answer the question using a single word or phrase."
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

WRAPPER = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf)\s*\{([^{}]*)\}")
# Around an answer: space, quotes, emphasis, formulas.
MARKUP = " \t\n*_`'\"$"
ALONE = re.compile(r"\(?([A-Z])\)?[.:]?")
WITH_TEXT = re.compile(r"\(?([A-Z])[).:]+\s*(.+)", re.DOTALL)
LETTER = r"([A-Z])(?![\w'])"
STATED = re.compile(rf"(?i:\banswer(?:\s+is)?\s*:?\s*(?:option|choice)?)[\s*(\"'$\[]*{LETTER}")
MARKED = re.compile(rf"(?:\((?=[A-Z]\))|\b(?i:option|choice)\s+){LETTER}")
# A letter by itself; the words "A" and "I" stand before another word.
NAMED = re.compile(r"(?<![\w'])(?:([B-HJ-Z])(?![\w'])|([AI])(?=[).,:;]|\s*$))")
NUMBER = re.compile(r"[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3})?")
# A number that is no part of a word, a percentage, a power or a fraction.
VALUE = re.compile(rf"(?<![\w.^/]){NUMBER.pattern}(?![\w%^/]|\s*\\?%)")
LIST = re.compile(r"\[\s*[-+]?[\d.]+(?:\s*,\s*[-+]?[\d.]+)*\s*\]")
REASON = re.compile(r",?\s+(?:because|since|as|for)\b.*", re.DOTALL | re.IGNORECASE)
ARTICLE = re.compile(r"^(?:the|an?)\s+(?=\S)")
WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{2,}")
YES_OR_NO = {"yes": True, "y": True, "no": False, "n": False}


def image_problem(images: Sequence[Image], question: str, reference: Mapping[str, Any]) -> Problem:
    """Return a problem whose images stand in front of the question."""
    return Problem(f"{MARKER}\n" * len(images) + question, reference, images=tuple(images))


def listed(options: Sequence[str]) -> str:
    """Return the options, a line each: `A. red`."""
    return "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False))


def chosen_letter(response: str, options: Sequence[str]) -> str | None:
    """Return the letter of the option that a response chooses; None if it chooses none, or several."""
    answer, known = _answer(response), LETTERS[: len(options)]
    texts = dict(zip(known, map(_words, options), strict=True))
    if found := ALONE.fullmatch(answer):
        return found[1] if found[1] in known else None
    same = [letter for letter, text in texts.items() if text == _words(answer)]
    if len(same) == 1:
        return same[0]
    named = {first or second for first, second in NAMED.findall(answer)} & {*known}
    if found := WITH_TEXT.fullmatch(answer):
        letter, text = found[1], _words(found[2])
        is_own = texts.get(letter) == text
        is_free = text not in texts.values() and named <= {letter}
        return letter if letter in known and (is_own or is_free) else None
    for pattern in (STATED, MARKED):
        if letters := {*pattern.findall(answer)}:
            # "The answer is B or C" states one letter and names two.
            return letters.pop() if len(letters | named) == 1 and letters <= {*known} else None
    return None


def is_short_answer(response: str, gold: str, precision: int | None = None) -> bool:
    """Return whether a response is an answer: the same words, yes or no, number, or list of numbers.

    Args:
        response: of the model.
        gold: the right answer.
        precision: decimal places that a number is rounded to before it is compared, as MathVista has it.
    """
    answer, gold = _answer(response), _bare(gold)
    given, wanted = _words(answer), _words(gold)
    if given in YES_OR_NO and wanted in YES_OR_NO:
        return YES_OR_NO[given] == YES_OR_NO[wanted]
    if given == wanted:
        return True
    if LIST.fullmatch(gold) and LIST.fullmatch(answer):
        # Item by item: "[100,200]" holds no number with a separator of thousands.
        items = [text.strip("[]").split(",") for text in (answer, gold)]
        return [*map(_numbers, items[0])] == [*map(_numbers, items[1])]
    if not NUMBER.fullmatch(gold):
        return False
    if len({*NUMBER.findall(answer)}) > 1:
        # Several numbers are several answers, unless a sentence states one and gives its reason.
        if any(NUMBER.fullmatch(_bare(line)) for line in answer.splitlines()):
            return False
        answer = REASON.sub("", stated_answer(answer, is_words=True) or "")
    found, (right,) = {*NUMBER.findall(answer)}, _numbers(gold)
    values = {*VALUE.findall(answer)} & found
    if len(found) != 1 or len(values) != 1:
        return False
    (value,) = _numbers(values.pop())
    return value == right if precision is None else round(value, precision) == right


def build_grader(config: DatasetTaskConfig) -> Grader:
    """Build the grader of references that hold `options` and the letter `answer`, or right `answers`.

    A short answer without words that is not the same is compared as mathematics, unless the reference has the
    `precision` of a number.
    """
    verified = math_grader(config.verifier, "boxed")

    def grade(items: Sequence[tuple[Prompt, str]]) -> list[Score]:
        rewards = [float(_is_right(prompt.reference, response)) for prompt, response in items]
        asked: list[tuple[int, tuple[Prompt, str]]] = []
        for place, (prompt, response) in enumerate(items):
            answer, reference = _answer(response), prompt.reference
            is_plain = "answers" in reference and "precision" not in reference
            if is_plain and not rewards[place] and answer and not WORD.search(answer):
                for gold in reference["answers"]:
                    as_gold = replace(prompt, reference={"answer": gold})
                    asked.append((place, (as_gold, f"\\boxed{{{answer}}}")))
        scores = verified.grade([item for _, item in asked]) if asked else []
        for (place, _), score in zip(asked, scores, strict=True):
            rewards[place] = max(rewards[place], float(score.reward == 1))
        return [Score(reward) for reward in rewards]

    return Grader(grade, verified.close)


def _is_right(reference: Mapping[str, Any], response: str) -> bool:
    if "options" in reference:
        return chosen_letter(response, reference["options"]) == reference["answer"]
    precision = reference.get("precision")
    return any(is_short_answer(response, gold, precision) for gold in reference["answers"])


def _answer(response: str) -> str:
    """Return what is graded of a response, without markup."""
    return _bare(answer_from_response(response.rpartition("</think>")[2]))


def _bare(text: str) -> str:
    """Return a text without wrappers of LaTeX, quotes and emphasis, and without the end of its sentence."""
    text = WRAPPER.sub(r"\1", text).strip(MARKUP)
    return text.rstrip(".").strip(MARKUP)


def _words(text: str) -> str:
    """Return the words of a text in lower case, without an article in front."""
    return ARTICLE.sub("", " ".join(text.lower().split()).strip(f"{MARKUP}.!"))


def _numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]
