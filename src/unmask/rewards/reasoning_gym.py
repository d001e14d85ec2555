"""Answers judged by the verifiers of the `reasoning_gym` package.

An item is `{"entry": the generator's entry, "answer": text}`, and its score is what the package's
own `score_answer` says. Several of those verifiers hand the answer to `eval`, or to sympy's parser,
which evaluates it too: there an answer is a program (a countdown answer can run a shell command).
Each of those tasks has an alphabet in which no harmful name can be spelled, and an answer outside
it scores 0 before the verifier has seen it.

An exception of a verifier is a bad answer only if the verifier can still judge the entry's own
answer; otherwise it is broken, and the exception is let through.
"""

import re
from collections.abc import Callable, Mapping
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
