r"""Mathematical equality of an answer and the gold.

The last closed `\boxed{...}` is the answer. If the gold is a list, the last boxes of the response may hold
one element each. Without a box, `extraction` decides:

    boxed     there is no answer: the response is wrong
    stated    the text after the word "answer" ("The answer is 18.")
    anywhere  the same, or else the last formula or number

Gold and answer are parsed in the same way and as a whole (`math_reading`), then compared
(`math_comparison`). A text that cannot be parsed as a whole equals only itself, which also grades gold
answers that are not mathematics.

Nothing here limits the time: the worker limits the whole item. An error inside a package counts as "not
equal", so whether the packages work is checked once, when the verifier is loaded. Only workers import
this module, because its packages take seconds to load (`tasks.grader` holds its name).
"""

from collections.abc import Callable, Iterator, Mapping

from unmask.configs.task import Extraction
from unmask.rewards.answers import joined_boxes, last_boxed, last_value, stated_answer
from unmask.rewards.math_comparison import is_same, num_elements
from unmask.rewards.math_reading import plain_words, read, squeezed, tidy

# These limit the time: a longer box is wrong unless it is the gold's own text, and outside a box only the
# end of a response is searched.
LONGEST_ANSWER = 1000
SEARCHED_END = 2000
# Shorter words may be products of letters: `xyz` equals `zyx`.
SHORTEST_WORD = 4
# The grammar reads these as products, so that `on` would equal `no`.
YES_NO = {"yes": "yes", "y": "yes", "no": "no", "n": "no"}
QUOTES = "\"'`!\u2018\u2019\u201c\u201d"


def is_equal(response: str, gold: str, extraction: Extraction = "boxed") -> float:
    """Return 1.0 if the answer in `response` equals `gold`, else 0.0."""
    gold = _bare(gold)
    return float(any(_is_answer(text, gold) for text in _answers(response, gold, extraction)))


def is_readable(gold: str) -> bool:
    """Return whether a gold is mathematics or words; any other gold equals its own text only."""
    gold = _bare(gold)
    return plain_words(gold) is not None or read(gold) is not None


def load_math_verifier(extraction: Extraction = "boxed") -> Callable[[Mapping[str, str]], float]:
    """Return the verifier of items `{"response": ..., "gold": ...}`.

    The score of an item without a response is 1 if its gold can be parsed.

    Raises:
        RuntimeError: a plain case is graded wrong, so the packages do not work.
    """
    probes = [is_equal(r"\boxed{\frac{1}{2}}", "0.5"), is_equal("It is 4.", "4", "anywhere")]
    if probes != [1.0, 1.0] or is_equal(r"\boxed{3}", "4"):
        raise RuntimeError("1/2 = 0.5 is graded wrong: reinstall latex2sympy2_extended and sympy")

    def verify(item: Mapping[str, str]) -> float:
        if "response" not in item:
            return float(is_readable(item["gold"]))
        return is_equal(item["response"], item["gold"], extraction)

    return verify


def _bare(text: str) -> str:
    boxed = last_boxed(text)
    return tidy(text if boxed is None else boxed)


def _answers(response: str, gold: str, extraction: Extraction) -> Iterator[str]:
    """Yield the answer of a response; if the gold is a list, also the list of as many last boxes."""
    boxed = last_boxed(response)
    if boxed is not None:
        yield _bare(boxed)
        wanted = read(gold)
        length = num_elements(wanted) if wanted else 1
        joined = joined_boxes(response, length) if length > 1 else None
        if joined is not None:
            yield joined
    elif extraction != "boxed":
        end = response[-SEARCHED_END:]
        found = stated_answer(end, is_words=plain_words(gold) is not None)
        if found is None and extraction == "anywhere":
            found = last_value(end)
        if found is not None:
            yield _bare(found)


def _is_answer(answer: str, gold: str) -> bool:
    if not answer or len(answer) > LONGEST_ANSWER or squeezed(answer) == squeezed(gold):
        return bool(answer) and squeezed(answer) == squeezed(gold)
    words, gold_words = plain_words(answer), plain_words(gold)
    if gold_words in YES_NO.values():
        return YES_NO.get(plain_words(answer.strip(QUOTES)) or "") == gold_words
    if words in YES_NO.values():
        return words == gold_words
    if words and gold_words and (words == gold_words or len(gold_words) >= SHORTEST_WORD):
        return words == gold_words
    formula, gold_formula = read(answer), read(gold)
    return bool(formula and gold_formula and is_same(gold_formula, formula))
