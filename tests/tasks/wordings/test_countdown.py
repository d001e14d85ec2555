"""The compact wording of `countdown`."""

from unmask.tasks.wordings.countdown import WORDING


def test_numbers_in_rising_order_target_and_expression():
    metadata = {"numbers": [7, 3, 5], "target": 16, "expression": "7*3 - 5"}
    assert WORDING.question({"metadata": metadata}) == "3,5,7=16:"
    assert WORDING.demonstration({"metadata": metadata}) == "7*3-5"
    assert WORDING.answer("7*3-5") == "7*3-5"
