"""The questions: answered by the right words and not by the question itself."""

import pytest

from unmask.acceptance.questions import QUESTIONS, Question


def test_there_are_twenty_and_none_answers_itself() -> None:
    assert len({question.text for question in QUESTIONS}) == 20
    assert not [question for question in QUESTIONS if question.is_answered(question.text)]


def test_every_answer_is_recognised_in_a_sentence() -> None:
    for question in QUESTIONS:
        assert question.is_answered(question.answer)
        assert question.is_answered(f"Sure: it is {question.answer}.\n")
        assert not question.is_answered("")


@pytest.mark.parametrize(
    ("answer", "response", "is_answered"),
    [
        ("12", "7 + 5 = 12", True),
        ("12", "it is 12.", True),
        ("12", "112", False),
        ("12", "12.5", False),
        ("12", "0.12", False),
        ("1024", "that is 1,024 bytes", True),
        ("Paris", "PARIS!", True),
        ("Paris", "Parisian", False),
        ("H2O", "the formula is H2O", True),
        ("sum(xs)", "total = sum( xs )", True),
        ("sum(xs)", "sum(ys)", False),
        ('print("hello")', "print('hello')", True),
    ],
)
def test_words_numbers_and_code(answer: str, response: str, is_answered: bool) -> None:
    assert Question("?", answer).is_answered(response) is is_answered
