"""Answers judged by the verifiers of the `reasoning_gym` package.

An item is `{"entry": the generator's entry, "answer": text}`, and its score is that of the package's
own `score_answer`. Several of those verifiers hand the answer to `eval`, or to sympy's parser,
which evaluates it too: there an answer is a program (a countdown answer can run a shell command).
Two others pay answers that are none: `nan` is as near to any complex number as the right one, and
any text is as true as `True`. Each of those tasks has an alphabet in which no harmful name can be
spelled, and an answer outside it scores 0 before the verifier reads it.

An alphabet mends only what is known. So a data set is probed before it is used (`probes`,
`paid_junk`): answers that are right nowhere must not be paid in full, nor plausible guesses where
another answer is right. Partial credit is the verifier's own affair.

An exception of a verifier is a bad answer only if the verifier can still judge the entry's own
answer; otherwise it is broken, and the exception is let through.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

FACTORY = "unmask.rewards.reasoning_gym:load_entry_verifier"

ARITHMETIC = re.compile(r"[0-9+\-*/() ]{1,64}", re.ASCII)
MATRIX = re.compile(r"[0-9\[\], \n-]{1,4096}", re.ASCII)
BOARD = re.compile(r"[Q_\[\]'\", \n]{1,4096}", re.ASCII)
LETTERS = re.compile(r"[A-E\[\]'\", ]{1,1024}", re.ASCII)
# Single letters and a few functions: builtins, attributes and strings cannot be written, nor
# `Integral(f, x)`, which the package accepts as the antiderivative of f.
FORMULA = re.compile(
    r"(?:[0-9+\-*/^() ]|\.(?=[0-9])|(?<![A-Za-z])(?:[A-Za-z]|a?(?:sin|cos|tan)|exp|log|sqrt)(?![A-Za-z]))"
    r"{1,512}",
    re.ASCII,
)
COMPLEX = re.compile(r"[0-9+\-.eEiIjJ() ]{1,256}", re.ASCII)
TRUTH = re.compile(r"(?i:true|false)", re.ASCII)

NO_ANSWERS = (
    *("", " ", "nan", "NaN", "nan+nanj", "inf", "-inf", "no idea", "I don't know", "None", "null"),
    *("9" * 400, "-1e308", "1e999", "[", "[[[]]]", "((((", "{}", "\\boxed{}", "?", ".", ","),
)
GUESSES = ("0", "1", "-1", "[]", "True", "False", "Yes", "No", "A")


def alphabet_of(name: str) -> re.Pattern[str] | None:
    """Return the pattern an answer to this dataset must match as a whole; None where any text is safe."""
    match name:
        case "countdown" | "puzzle24":
            return ARITHMETIC
        case "binary_matrix" | "spiral_matrix":
            return MATRIX
        case "n_queens":
            return BOARD
        case "string_insertion":
            return LETTERS
        case "complex_arithmetic":
            return COMPLEX
        case "game_of_life_halting":
            return TRUTH
        case "intermediate_integration" | "polynomial_multiplication" | "simple_integration":
            return FORMULA
        case _:
            return None


def load_entry_verifier(name: str, args: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], float]:
    """Make the dataset `name` with `args` and return the verifier of its entries.

    Raises:
        RuntimeError: the verifier does not accept the dataset's own answer.
    """
    import reasoning_gym

    dataset: Any = reasoning_gym.create_dataset(name, **args)
    alphabet = alphabet_of(name)
    # Also pays, off any item's clock, for what a verifier imports when first called.
    probe: dict[str, Any] = dataset[0]
    if probe["answer"] is not None and not dataset.score_answer(probe["answer"], probe) > 0:
        raise RuntimeError(f"reasoning_gym {name!r} scores its own answer {probe['answer']!r} as 0")

    def score(item: Mapping[str, Any]) -> float:
        answer, entry = item["answer"], item["entry"]
        if alphabet is not None and not alphabet.fullmatch(answer):
            return 0.0
        try:
            return float(dataset.score_answer(answer, entry))
        except Exception:
            dataset.score_answer(entry["answer"], entry)
            return 0.0

    return score


def probes(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return items whose answers are junk: texts that answer nothing, bare guesses, the question itself."""
    return [
        {"entry": entry, "answer": answer}
        for entry in entries
        for answer in (*NO_ANSWERS, *GUESSES, entry["question"])
        if not _is_own(answer, entry)
    ]


def paid_junk(
    items: Sequence[Mapping[str, Any]], scores: Iterable[float]
) -> Mapping[str, Any] | None:
    """Return the first of the `probes` that should not have earned a full score; None where all is well.

    A guess, or a number that stands in the question, may be right by chance: it must earn it on
    three problems, each with another answer of its own.
    """
    paid = [item for item, score in zip(items, scores, strict=True) if score >= 1]
    times = Counter(map(_kind, paid))
    return next((i for i in paid if i["answer"] in NO_ANSWERS or times[_kind(i)] >= 3), None)


def _kind(item: Mapping[str, Any]) -> str:
    return "question" if item["answer"] == item["entry"]["question"] else item["answer"]


def _is_own(answer: str, entry: Mapping[str, Any]) -> bool:
    """Whether this is the answer of the entry itself, up to its spelling."""
    own = entry["answer"]
    if own is None or answer.strip().casefold() == own.strip().casefold():
        return own is not None
    try:
        return float(answer) == float(own)
    except ValueError:
        return False
