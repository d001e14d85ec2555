"""The record of a wording: the prompt of a generated problem, and the answer read from a response.

The package's own wording needs a model that reads English. A small model gets a compact wording of a
few characters over a fixed alphabet (`tasks/wordings`). It changes the text only: it converts the
response to the layout that the package's verifier expects, and that verifier grades it. A response
that cannot be converted is passed on unchanged.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from unmask.rewards.answers import answer_from_response

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wording:
    """The three texts of a problem.

    Attributes:
        question: returns the prompt, from the generator's entry.
        demonstration: returns a right response, from the entry; None where the entry has no answer.
        answer: returns the part of a response that is graded.
        alphabet: every character of prompts and demonstrations; None where any may occur.
    """

    question: Callable[[Entry], str]
    demonstration: Callable[[Entry], str | None]
    answer: Callable[[str], str]
    alphabet: str | None = None


VERBATIM = Wording(
    question=lambda entry: entry["question"],
    demonstration=lambda entry: entry["answer"],
    answer=answer_from_response,
)
