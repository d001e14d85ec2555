"""MathVista: mathematics in images (Lu et al., arXiv 2310.02255).

The answers of the published test split are not public, so `test` here is its testmini split. The question has the
short-answer wording of lmms-eval (`mathvista_testmini_format`); published results that let a language model
extract the answer from free text are not comparable. A number is rounded to the record's `precision`, a whole number
has to be one, and a list has to have the same numbers in the same order.
"""

from typing import Any

from unmask.tasks.dataset import Dataset, Problem, Source
from unmask.tasks.record import Record
from unmask.tasks.short_answers import (
    BY_LETTER,
    LETTERS,
    build_grader,
    image_problem,
    listed,
)

PLACES = {1: "one decimal place", 2: "two decimal places"}


def problem(record: Record) -> Problem:
    """Read `question`, `choices`, `unit`, `precision`, `answer`, `answer_type`, and `decoded_image` or `image`."""
    unit = record.values.get("unit")
    asked = record.text("question") + (f" (Unit: {unit})" if unit else "")
    answer = record.text("answer")
    images = record.images_of("decoded_image" if record.values.get("decoded_image") else "image")
    if choices := record.values.get("choices"):
        options = [str(choice) for choice in choices]
        if answer not in options or len(options) > len(LETTERS):
            raise record.unfit("answer", "must be one of the choices")
        reference: dict[str, Any] = {"answer": LETTERS[options.index(answer)], "options": options}
        return image_problem(images, f"{asked}\n{listed(options)}\n{BY_LETTER}", reference)
    precision = int(record.values.get("precision") or 0)
    match record.values.get("answer_type"):
        case "integer":
            hint = "Answer the question using a single integer number."
            precision = None
        case "float" if precision in PLACES:
            hint = f"Answer the question using a single floating-point number with {PLACES[precision]}."
        case "list":
            hint = "Answer the question using a Python list."
            precision = None
        case _:
            raise record.error(
                "answer_type", "must be integer, float (with precision 1 or 2) or list"
            )
    reference = {"answers": [answer], "precision": precision}
    return image_problem(images, f"{asked}\n{hint}", reference)


DATASET = Dataset(
    hub="AI4Math/MathVista",
    subset="default",
    sources={"test": Source("mathvista-testmini", "testmini")},
    problem=problem,
    template="{question}",
    build_grader=build_grader,
)
