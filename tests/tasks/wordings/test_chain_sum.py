"""The compact wording of `chain_sum`."""

import pytest

from unmask.tasks.wordings.chain_sum import WORDING


@pytest.mark.parametrize(
    ("expression", "question", "demonstration"),
    [
        ("4 - 1 - 7", "4-1-7=", "3;-4"),
        ("12 + 30", "12+30=", "42"),
        ("3 - -4 + 1", "3--4+1=", "7;8"),
        ("5", "5=", "5"),
    ],
)
def test_running_totals(expression: str, question: str, demonstration: str):
    entry = {"metadata": {"expression": expression}}
    assert WORDING.question(entry) == question
    assert WORDING.demonstration(entry) == demonstration


def test_the_text_after_the_last_semicolon_is_judged():
    assert [WORDING.answer(r) for r in ("3;-4", "-4", "3;", "")] == ["-4", "-4", "", ""]
