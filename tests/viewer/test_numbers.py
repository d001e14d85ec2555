"""Numbers keep the digits that tell them apart, and no others."""

import pytest

from unmask.viewer.numbers import duration, is_number, moment, share, short, tick_labels


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.85534, "0.8553"), (-2.5, "-2.5"), (12345.6, "12,346"), (1.19e-6, "1.19e-6")],
)
def test_short(value: float, text: str) -> None:
    assert short(value) == text


def test_is_number() -> None:
    assert all(map(is_number, [0, -1, 2.5, 1e300]))
    assert not any(map(is_number, [None, True, "1", float("nan"), float("inf"), 10**400]))


def test_large_numbers_are_scientific() -> None:
    assert short(2e9) == "2e9"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 %"), (1, "100 %"), (0.85534, "85.5 %"), (0.00041, "0.041 %")]
)
def test_share(value: float, text: str) -> None:
    assert share(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.25, "1.2 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90000, "1 d 1 h")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_tick_labels_differ() -> None:
    assert tick_labels([0.9975, 1.0, 1.0025]) == ["0.9975", "1.0000", "1.0025"]
    assert tick_labels([0.0005, 0.001], is_share=True) == ["0.05 %", "0.10 %"]
    assert tick_labels([-0.1, -2.7e-17, 0.1]) == ["-0.1", "0.0", "0.1"]
    assert tick_labels([1e-6, 1e-5]) == ["1e-6", "1e-5"]
    assert tick_labels([0, 5000]) == ["0", "5,000"]


def test_moment() -> None:
    assert moment("2026-11-20T10:20:10+00:00") == "2026-11-20 10:20 UTC"
    assert moment("yesterday") == "yesterday"
