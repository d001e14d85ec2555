"""Grades answers by the verifiers of the `reasoning_gym` package (the extra `puzzles`).

An item is `{"entry": the generator's entry, "answer": text}`, scored by the package's `score_answer`.
Some of those verifiers pass the answer to `eval`, or to sympy's parser, which evaluates it too, so an
answer can be a program (a countdown answer can run a shell command). Two others accept wrong answers:
`nan` as any complex number, and any text as `True`. Each of these tasks has an alphabet in which no
harmful name can be written, and an answer outside it scores 0 without reaching the verifier.

An alphabet covers known cases only. A data set is therefore probed before it is used (`probes`,
`paid_junk`): neither an answer that is wrong everywhere nor a guess where another answer is right may
get a full score. Partial credit is not checked.

An exception of a verifier means a wrong answer if the verifier can still grade the entry's own answer;
otherwise the verifier is broken, and the exception is raised.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

FACTORY = "unmask.rewards.reasoning_gym:load_entry_verifier"

ARITHMETIC = re.compile(r"[0-9+\-*/() ]{1,64}", re.ASCII)
MATRIX = re.compile(r"[0-9\[\], \n-]{1,4096}", re.ASCII)
# Single letters and a few functions exclude builtins, attributes and strings, and `Integral(f, x)`,
# which the package accepts as the antiderivative of f.
FORMULA = re.compile(
    r"(?:[0-9+\-*/^() ]|\.(?=[0-9])|(?<![A-Za-z])(?:[A-Za-z]|a?(?:sin|cos|tan)|exp|log|sqrt)(?![A-Za-z]))"
    r"{1,512}",
    re.ASCII,
)
ALPHABETS = {
    **dict.fromkeys(("countdown", "puzzle24"), ARITHMETIC),
    **dict.fromkeys(("binary_matrix", "spiral_matrix"), MATRIX),
    **dict.fromkeys(("simple_integration", "intermediate_integration"), FORMULA),
    "polynomial_multiplication": FORMULA,
    "n_queens": re.compile(r"[Q_\[\]'\", \n]{1,4096}", re.ASCII),
    "string_insertion": re.compile(r"[A-E\[\]'\", ]{1,1024}", re.ASCII),
    "complex_arithmetic": re.compile(r"[0-9+\-.eEiIjJ() ]{1,256}", re.ASCII),
    "game_of_life_halting": re.compile(r"(?i:true|false)", re.ASCII),
}

NO_ANSWERS = (
    *("", " ", "nan", "NaN", "nan+nanj", "inf", "-inf", "no idea", "I don't know", "None", "null"),
    *("9" * 400, "-1e308", "1e999", "[", "[[[]]]", "((((", "{}", "\\boxed{}", "?", ".", ","),
)
GUESSES = ("0", "1", "-1", "[]", "True", "False", "Yes", "No", "A")


def alphabet_of(name: str) -> re.Pattern[str] | None:
    """Return the pattern that an answer to this dataset must match as a whole; None if any text is safe."""
    return ALPHABETS.get(name)


def load_entry_verifier(name: str, args: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], float]:
    """Create a dataset and return the verifier of its entries.

    Raises:
        RuntimeError: the verifier does not accept the dataset's own answer.
    """
    import reasoning_gym

    dataset: Any = reasoning_gym.create_dataset(name, **args)
    alphabet = alphabet_of(name)
    # The first call of a verifier may import modules, which should count for no item.
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
    """Return items with wrong answers: texts without an answer, bare guesses, and the question itself."""
    return [
        {"entry": entry, "answer": answer}
        for entry in entries
        for answer in (*NO_ANSWERS, *GUESSES, entry["question"])
        if not _is_own(answer, entry)
    ]


def paid_junk(
    items: Sequence[Mapping[str, Any]], scores: Iterable[float]
) -> Mapping[str, Any] | None:
    """Return the first of the `probes` that got a full score wrongly; None if there is none.

    A guess may be right by chance, so it counts only if three problems accept it although the answer of
    each is another one.
    """
    paid = [item for item, score in zip(items, scores, strict=True) if score >= 1]
    times = Counter(map(_kind, paid))
    return next((i for i in paid if i["answer"] in NO_ANSWERS or times[_kind(i)] >= 3), None)


def _kind(item: Mapping[str, Any]) -> str:
    return "question" if item["answer"] == item["entry"]["question"] else item["answer"]


def _is_own(answer: str, entry: Mapping[str, Any]) -> bool:
    """Return whether an answer is the entry's own, up to its spelling."""
    own = entry["answer"]
    if own is None or answer.strip().casefold() == own.strip().casefold():
        return own is not None
    try:
        return float(answer) == float(own)
    except ValueError:
        return False
