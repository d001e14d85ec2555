"""How a generated problem is put to the model, and how an answer is read from the response.

The package's own wording needs a model that reads English. A small model gets a compact wording: a
few characters to read and a few to write, over a known alphabet. A compact wording touches the text
only: it renders the response into the layout the package's verifier expects, and that verifier
judges. A response that cannot be rendered is passed on as it is, and scores what such an answer
scores.
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
        question: the prompt, from the generator's entry.
        demonstration: a right response, from the entry; None where the generator gives no answer.
        answer: what is judged, from the response.
        alphabet: every character of prompts and demonstrations; None where the text is free.
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
