"""The package's own wording returns its texts unchanged and grades the answer of a response."""

from unmask.tasks.wording import VERBATIM


def test_question_and_answer_are_the_generators():
    entry = {"question": "What is 2 + 2?", "answer": "4"}
    assert VERBATIM.question(entry) == "What is 2 + 2?"
    assert VERBATIM.demonstration(entry) == "4"
    assert VERBATIM.demonstration({"question": "?", "answer": None}) is None
    assert VERBATIM.answer(r"It is \boxed{4}.") == "4"
    assert VERBATIM.alphabet is None
