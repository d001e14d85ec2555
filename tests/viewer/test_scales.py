"""Axes show the bulk of a curve, with round numbers inside."""

from hypothesis import given
from hypothesis import strategies as st

from unmask.viewer.numbers import MOST
from unmask.viewer.scales import Scale, value_scale

VALUES = st.lists(st.floats(-MOST, MOST), min_size=1, max_size=50)


@given(VALUES, st.booleans(), st.booleans())
def test_every_value_has_a_place(values: list[float], is_log: bool, is_from_zero: bool) -> None:
    scale = value_scale(values, 100, is_log, is_from_zero)
    assert all(0 <= scale(value) <= 100 for value in values)
    margin = (scale.high - scale.low) * 1e-6
    assert all(scale.low - margin <= tick <= scale.high + margin for tick in scale.ticks())


def test_order_is_kept() -> None:
    scale = value_scale([1.0, 2.0, 4.0], 100)
    assert 0 < scale(1.0) < scale(2.0) < scale(4.0) < 100


def test_ticks_are_round() -> None:
    assert value_scale([0.0, 1.0], 100).ticks() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert Scale(1e-8, 1e-5, 100, is_log=True).ticks() == [1e-8, 1e-7, 1e-6, 1e-5]


def test_a_spike_does_not_flatten_the_rest() -> None:
    scale = value_scale([1.0, 2.0] * 50 + [1e6], 100)
    assert scale.high < 10
    assert scale(1e6) == 100


def test_log_scale_holds_zero_at_the_border() -> None:
    scale = value_scale([0.0, 1e-6, 2e-4], 100, is_log=True)
    assert scale(0.0) == 0
    assert value_scale([0.0], 100, is_log=True)(0.0) == 0


def test_zero_is_in_sight_when_asked() -> None:
    assert value_scale([5.0, 6.0], 100, is_from_zero=True).low == 0
    assert value_scale([5.0, 6.0], 100).low > 4
