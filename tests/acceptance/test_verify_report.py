"""The report: short whatever was asked, one line per response, and what failed at its end."""

from unmask.acceptance.questions import QUESTIONS
from unmask.acceptance.verify_report import WIDTH, Check, Report, Response

FACTS = (("versions", "unmask 1"), ("device", "cpu"))
GOOD, BAD = Check("finite logits", True, "all"), Check("published code", False, "apart")


def response(index: int, text: str) -> Response:
    return Response(QUESTIONS[index], text, 6, 4, 5, 0.25)


def test_the_whole_report() -> None:
    responses = [response(0, "7 + 5 = 12"), response(8, "London\n\nis it.\x1b[31m")]
    assert (
        Report("toy", FACTS, [GOOD, BAD], responses).text()
        == """\
unmask verify toy
versions  unmask 1
device    cpu

ok      finite logits   all
FAILED  published code  apart

questions: the expected answer occurs in 1 of 2 responses; 1.50 tokens per denoising step, 10 forwards, 0.5 s
answer  tokens/step  forwards      s  question, and below it the response
yes            1.50         5    0.2  What is 7 + 5? Reply with the number only.
        7 + 5 = 12
no             1.50         5    0.2  What is the capital of France? Reply with one word.
        London is it.\u241b[31m

FAILED: published code."""
    )


def test_long_and_empty_responses_take_one_line() -> None:
    lines = Report("toy", FACTS, [GOOD], [response(0, "x " * 200), response(1, " ")]).text()
    long, empty = (line for line in lines.splitlines() if line.startswith(" " * 8))
    assert len(long.strip()) == WIDTH
    assert long.endswith("...")
    assert empty.strip() == "(empty)"


def test_the_longest_report_is_under_sixty_lines() -> None:
    facts = [("fact", "x")] * 8
    responses = [response(i, "line\n" * 50) for i in range(len(QUESTIONS))]
    text = Report("toy", facts, [GOOD] * 3, responses).text()
    assert len(text.splitlines()) < 60
    assert text.endswith("Every check passed.")


def test_without_questions_the_reason_is_said() -> None:
    assert "questions not asked\n" in Report("toy", FACTS, [GOOD], []).text()
    noted = Report("toy", FACTS, [GOOD], [], "not asked: no tokenizer")
    assert "questions not asked: no tokenizer\n" in noted.text()
    assert noted.passed
