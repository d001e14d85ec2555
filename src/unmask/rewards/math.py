r"""Mathematical equality, decided by the `math-verify` package.

The last `\boxed{...}` is the answer; where there is none the package looks for one itself ("The
answer is 18."). Gold and answer are parsed alike, so fractions, decimals, percent, units,
intervals, sets and thousands separators are the package's business: deleting commas here would make
`1,2` equal 12. Two equal strings are equal without being parsed, which also judges gold answers
that are no mathematics.

The package's own timeouts are off: they are signals that share the timer of the worker, which
bounds the whole item. The package also hides its own errors and calls them "not equal"; so whether
it works at all is checked once, when it is loaded.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from unmask.rewards.answers import last_boxed

FACTORY = "unmask.rewards.math:load_math_verifier"


def is_equal(response: str, gold: str) -> float:
    """Return 1.0 if the answer in `response` equals `gold`, else 0.0."""
    from math_verify import verify

    boxed = last_boxed(response)
    gold = _tidy(gold)
    if boxed is not None and _tidy(boxed) == gold:
        return 1.0
    answer = _parse(response) if boxed is None else _parse_boxed(boxed)
    return float(verify(_parse_boxed(gold), answer, timeout_seconds=0))


def load_math_verifier() -> Callable[[Mapping[str, str]], float]:
    """Import `math-verify` and return the verifier of items `{"response": ..., "gold": ...}`.

    Raises:
        RuntimeError: the package judges a plain case wrong; as it hides its errors, nothing else
            would tell.
    """
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    if is_equal(r"\boxed{\frac{1}{2}}", "0.5") != 1.0 or is_equal("It is 3.", "4") != 0.0:
        raise RuntimeError("math-verify fails on 1/2 = 0.5; reinstall math-verify")
    return lambda item: is_equal(item["response"], item["gold"])


def _tidy(text: str) -> str:
    boxed = last_boxed(text)
    # `18.` ends a sentence; the package cannot read it as a number.
    return (text if boxed is None else boxed).strip().rstrip(".")


def _parse_boxed(text: str) -> list[Any]:
    return _parse(f"\\boxed{{{_tidy(text)}}}")


def _parse(text: str) -> list[Any]:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    targets = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    return parse(text, targets, parsing_timeout=0)
