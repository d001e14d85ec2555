"""The report of `unmask verify`, as records and as the text that is printed.

It has under 60 lines, because it is pasted into issues: a response of many lines is joined to one and
cut where it is long, and control characters in it are shown as pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unmask.acceptance.questions import Question
from unmask.runs.print import visible
from unmask.runs.text_table import align

WIDTH = 88  # most characters of a response


@dataclass(frozen=True, slots=True)
class Check:
    """One check and its result."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True, slots=True)
class Response:
    """A question, and the model's response to it."""

    question: Question
    text: str
    num_tokens: int
    num_steps: int
    num_forwards: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """The result of `unmask verify`.

    Attributes:
        name: of the checkpoint, without its directory.
        facts: names and values of the model and the machine.
        checks: those that ran.
        responses: to the questions asked.
        note: why none were asked, if so.
    """

    name: str
    facts: Sequence[tuple[str, str]]
    checks: Sequence[Check]
    responses: Sequence[Response]
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(check.passed for check in self.checks)

    def text(self) -> str:
        """Return the report as it is printed: fewer than 60 lines."""
        rows = [("ok" if c.passed else "FAILED", c.name, c.found) for c in self.checks]
        failed = ", ".join(check.name for check in self.checks if not check.passed)
        verdict = "Every check passed." if self.passed else f"FAILED: {failed}."
        heads = [f"unmask verify {self.name}", align(self.facts), "", align(rows), ""]
        return "\n".join((*heads, *_answers(self.responses, self.note), "", verdict))


def _answers(responses: Sequence[Response], note: str) -> list[str]:
    """Return the lines of the questions: one with their sums, then two for each response."""
    if not responses:
        return [f"questions {note or 'not asked'}"]
    right = sum(r.question.is_answered(r.text) for r in responses)
    tokens, steps = sum(r.num_tokens for r in responses), sum(r.num_steps for r in responses)
    head = (
        f"questions: the expected answer occurs in {right} of {len(responses)} responses; "
        f"{tokens / steps:.2f} tokens per denoising step, "
        f"{sum(r.num_forwards for r in responses)} forwards, "
        f"{sum(r.seconds for r in responses):.1f} s"
    )
    lines = [head, "answer  tokens/step  forwards      s  question, and below it the response"]
    for r in responses:
        answered = "yes" if r.question.is_answered(r.text) else "no"
        numbers = f"{r.num_tokens / r.num_steps:>11.2f}  {r.num_forwards:>8}  {r.seconds:>5.1f}"
        lines += [f"{answered:<6}  {numbers}  {r.question.text}", f"        {_one_line(r.text)}"]
    return lines


def _one_line(text: str) -> str:
    """Return a response as one line, cut where it is long."""
    line = visible(" ".join(text.split())) or "(empty)"
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..."
