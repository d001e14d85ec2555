"""Numbers and time spans as text."""

import pytest

from unmask.runs.format import format_duration, format_number, format_share


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.85534, "0.8553"), (-2.5, "-2.5"), (12345.6, "12,346"), (1.19e-6, "1.19e-6")],
)
def test_number(value: float, text: str) -> None:
    assert format_number(value) == text


def test_large_numbers_are_scientific() -> None:
    assert format_number(2e9) == "2e9"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 %"), (1, "100 %"), (0.85534, "85.5 %"), (0.00041, "0.041 %")]
)
def test_share(value: float, text: str) -> None:
    assert format_share(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0.4 s"),
        (1.25, "1.2 s"),
        (59, "59 s"),
        (61, "1 min 1 s"),
        (7260, "2 h 1 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
