"""`Generation`: what follows from its fields, and what two of them have in common."""

import math
from dataclasses import replace

from unmask.engine.generation import BrokenResponses, Generation

ONE = Generation("ab", (3, 4), (1, 1), (-1.0, -2.0), "stop", 4, (-0.5, 0.0), (0.1, 0.2), 0, str)


def test_confidences_and_speed_follow_from_its_fields() -> None:
    assert ONE.confidences == (math.exp(-0.5), 1.0)
    assert ONE.tokens_per_forward == 0.5


def test_the_page_that_plays_it_is_made_when_a_notebook_asks_and_is_no_part_of_the_value() -> None:
    made: list[int] = []
    shown = replace(ONE, html=lambda: f"page {made.append(1)}")
    assert not made and shown == ONE and "html" not in repr(ONE)
    assert shown._repr_html_() == "page None" and len(made) == 1


def test_the_error_of_a_batch_carries_the_others() -> None:
    error = BrokenResponses("1 of 2", {1: ValueError("NaN")}, [None, None], [ONE, None])
    assert str(error) == "1 of 2" and error.generations == [ONE, None]
    assert isinstance(error, ValueError) and list(error.errors) == [1]
