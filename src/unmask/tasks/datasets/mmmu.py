"""MMMU: college questions about one to seven images (Yue et al., arXiv 2311.16502).

The answers of the published test split are not public, so `test` here is its validation split, as in published results.
Images stand in front of the question in the order of their numbers; `<image 1>` in a question or an option names one,
as in lmms-eval. `options` is a list written as text; the answers of open questions may be one, too.
"""

import ast
import re

from unmask.tasks.dataset import Dataset, Problem, Source
from unmask.tasks.record import Record
from unmask.tasks.short_answers import (
    BY_LETTER,
    BY_WORD,
    LETTERS,
    build_grader,
    image_problem,
    listed,
)

PLACE = re.compile(r"<image (\d)>")


def problem(record: Record) -> Problem:
    """Read `question`, `options`, `answer`, `question_type` and `image_1` to `image_7`."""
    question, answer = record.text("question"), record.text("answer")
    if record.values.get("question_type") == "multiple-choice":
        options = _texts(record, "options")
        if answer not in {*LETTERS[: len(options)]}:
            raise record.unfit("answer", f"must be a letter of the {len(options)} options")
        asked = f"{question}\n{listed(options)}\n\n{BY_LETTER}"
        reference = {"answer": answer, "options": options}
    else:
        asked = f"{question}\n\n{BY_WORD}"
        is_list = answer.startswith("[") and answer.endswith("]")
        reference = {"answers": _texts(record, "answer") if is_list else [answer]}
    numbers = sorted({*PLACE.findall(asked)})
    return image_problem([record.image(f"image_{n}") for n in numbers], asked, reference)


def _texts(record: Record, name: str) -> list[str]:
    """Return a list of texts, which may be written as the text of a Python list."""
    value = record.values.get(name)
    try:
        found = ast.literal_eval(value) if isinstance(value, str) else value
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or not 0 < len(found) <= len(LETTERS):  # pyright: ignore[reportUnknownArgumentType]
        raise record.error(name, f"must be a list of 1 to {len(LETTERS)} texts")
    return [str(text) for text in found]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


DATASET = Dataset(
    hub="lmms-lab/MMMU",
    sources={"test": Source("mmmu-validation", "validation")},
    problem=problem,
    template="{question}",
    build_grader=build_grader,
)
