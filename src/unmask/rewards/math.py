r"""Mathematical equality, decided by the `math-verify` package.

The last closed `\boxed{...}` is the answer. Where there is none, `extraction` says what counts:

    boxed     nothing does: the response is wrong
    stated    what the package finds behind the word "answer" ("The answer is 18.")
    anywhere  that, else the last expression or number

Gold and answer are parsed alike, so fractions, decimals, percent, units, currency, intervals, sets
and thousands separators are the package's business: deleting commas here would make `1,2` equal 12.
Two equal strings are equal without being parsed, which also judges gold answers that are no
mathematics.

The package's own timeouts are off: they are signals that share the timer of the worker, which
bounds the whole item. The package also hides its own errors and calls them "not equal"; so whether
it works at all is checked once, when it is loaded.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from unmask.configs.task import Extraction
from unmask.rewards.answers import last_boxed

FACTORY = "unmask.rewards.math:load_math_verifier"

# The package's time grows with the text, so what no answer needs is not read: a longer box is wrong
# unless it is the gold's own text, and outside a box only the end of a response is searched.
LONGEST_ANSWER = 1000
SEARCHED_END = 2000


def is_equal(response: str, gold: str, extraction: Extraction = "boxed") -> float:
    """Return 1.0 if the answer in `response` equals `gold`, else 0.0."""
    from math_verify import verify

    gold = _tidy(gold)
    boxed = last_boxed(response)
    if boxed is not None and _tidy(boxed) == gold:
        return 1.0
    if boxed is None and extraction != "boxed":
        # Outside mathematics the package knows `$18`, not `\$18`.
        answer = _parse_outside(response[-SEARCHED_END:].replace("\\$", ""), extraction)
    elif boxed is not None and len(boxed) <= LONGEST_ANSWER:
        answer = _parse_boxed(_tidy(boxed))
    else:
        return 0.0
    return float(verify(_parse_boxed(gold), answer, timeout_seconds=0))


def load_math_verifier(extraction: Extraction = "boxed") -> Callable[[Mapping[str, str]], float]:
    """Import `math-verify` and return the verifier of items `{"response": ..., "gold": ...}`.

    Raises:
        RuntimeError: the package judges a plain case wrong; as it hides its errors, nothing else
            would tell.
    """
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    probes = [is_equal(r"\boxed{\frac{1}{2}}", "0.5"), is_equal("It is 4.", "4", "anywhere")]
    if probes != [1.0, 1.0] or is_equal(r"\boxed{3}", "4"):
        raise RuntimeError("math-verify fails on 1/2 = 0.5; reinstall math-verify")
    return lambda item: is_equal(item["response"], item["gold"], extraction)


def _tidy(text: str) -> str:
    boxed = last_boxed(text)
    # `18.` ends a sentence; the package cannot read it as a number.
    return (text if boxed is None else boxed).strip().rstrip(".")


def _parse_boxed(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    # As a whole or not at all: the other target would take the last number out of any nonsense.
    return parse(
        f"\\boxed{{{text}}}", [LatexExtractionConfig(boxed_match_priority=0)], parsing_timeout=0
    )


def _parse_outside(text: str, extraction: Extraction) -> list[Any]:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    anywhere = extraction == "anywhere"
    targets = [
        # -1: a box that was never closed is no box.
        LatexExtractionConfig(try_extract_without_anchor=anywhere, boxed_match_priority=-1),
        ExprExtractionConfig(try_extract_without_anchor=anywhere),
    ]
    return parse(text, targets, parsing_timeout=0)
