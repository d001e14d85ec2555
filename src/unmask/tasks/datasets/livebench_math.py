r"""The mathematics of LiveBench (White et al., arXiv 2406.19314): three tasks, each with its own answer format.

The question itself states the format, so the template adds nothing. `AMPS_Hard` asks for a box,
`math_comp` for three digits at the end or a letter five times in a row (`CCCCC`), `olympiad` for the
missing formulae of a proof, `Answer: 3,1,2`, which scores the share of places that are right, as its
authors count it.
"""

import re
from collections.abc import Sequence

from unmask.configs.task import DatasetTaskConfig
from unmask.tasks.dataset import Dataset, Problem, Source
from unmask.tasks.grader import Grader, math_grader
from unmask.tasks.record import Record
from unmask.types import Prompt, Score

LETTER = frozenset("ABCDE")
LETTERS = re.compile(r"([A-E])\1{3,}")
LIST = re.compile(r"\d+(?:\s*,\s*\d+)*")


def problem(record: Record) -> Problem:
    """Read `turns`, of which there is one, `ground_truth` and `task`."""
    reference = {"answer": record.text("ground_truth"), "task": record.text("task")}
    return Problem(only_turn(record), reference)


def only_turn(record: Record) -> str:
    """Return the question of a record of LiveBench: the only text of `turns`."""
    turns = record.values.get("turns")
    if not isinstance(turns, list | tuple) or len(turns) != 1:  # pyright: ignore[reportUnknownArgumentType]
        raise record.error("turns", "must be a list of one text")
    return Record(record.place, {"turns": turns[0]}).text("turns")


def answer_in_a_box(response: str) -> str:
    """Return a letter that is repeated at least four times in a row in a box, other responses unchanged."""
    letters = LETTERS.findall(response)
    return f"\\boxed{{{letters[-1]}}}" if letters else response


def share_in_order(response: str, gold: str) -> float:
    """Return the share of places of a comma-separated list that the list after the last `Answer:` has right."""
    _, marker, tail = response.lower().rpartition("answer:")
    found = LIST.search(tail) if marker else None
    if found is None:
        return 0.0
    given, wanted = (re.findall(r"\d+", text) for text in (found.group(), gold))
    # As strings: Python refuses to convert a number of thousands of digits.
    right = sum(a.lstrip("0") == b.lstrip("0") for a, b in zip(given, wanted, strict=False))
    return right / max(len(given), len(wanted))


def build_grader(config: DatasetTaskConfig) -> Grader:
    """Build the grader that reads each task's own answer format."""

    def is_ordered(prompt: Prompt) -> bool:
        return prompt.reference["task"] == "olympiad"

    verified = math_grader(config.verifier, config.extraction or "anywhere")

    def grade(items: Sequence[tuple[Prompt, str]]) -> list[Score]:
        boxed = [
            (p, answer_in_a_box(r) if p.reference["answer"] in LETTER else r)
            for p, r in items
            if not is_ordered(p)
        ]
        scores = iter(verified.grade(boxed))
        return [
            Score(share_in_order(r, p.reference["answer"])) if is_ordered(p) else next(scores)
            for p, r in items
        ]

    def check(place: str, prompts: Sequence[Prompt]) -> None:
        verified.check(place, [prompt for prompt in prompts if not is_ordered(prompt)])

    return Grader(grade, verified.close, check=check)


DATASET = Dataset(
    hub="livebench/math",
    sources={"test": Source("livebench-math", "test")},
    problem=problem,
    template="{question}",
    build_grader=build_grader,
)
