"""Shuffled passes: each item once per pass, and a place that can be left and found again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.data.shuffled import Shuffled

ITEMS = list("abcdefgh")


@given(st.lists(st.integers(0, 11), max_size=12), st.integers(0, 5))
def test_every_pass_is_a_permutation_whatever_the_size_of_the_draws(
    sizes: list[int], seed: int
) -> None:
    source = Shuffled(ITEMS, seed)
    draws = [draw for size in sizes for draw in source.draw(size)]
    draws += source.draw(-len(draws) % len(ITEMS))
    dealt = [draw.item for draw in draws]
    for start in range(0, len(dealt), len(ITEMS)):
        assert sorted(dealt[start : start + len(ITEMS)]) == ITEMS
    assert [draw.key for draw in draws] == [
        (number // len(ITEMS) + 1, ITEMS.index(item)) for number, item in enumerate(dealt)
    ]


def test_passes_and_seeds_differ_in_their_order() -> None:
    source = Shuffled(ITEMS, 0)
    first, second = source.draw(8), source.draw(8)
    assert [draw.item for draw in first] != [draw.item for draw in second]
    assert first != Shuffled(ITEMS, 1).draw(8)
    assert first == Shuffled(ITEMS, 0).draw(8)


@pytest.mark.parametrize("skip", [0, 3, 11])
def test_items_ahead_are_the_ones_drawn_later(skip: int) -> None:
    source, other = Shuffled(ITEMS, 3), Shuffled(ITEMS, 3)
    source.draw(6)
    state = source.state()
    found = source.ahead(skip, 9)
    assert source.state() == state
    assert source.draw(2) == other.draw(8)[6:]
    source.restore(state)
    source.draw(skip)
    assert source.draw(9) == found


@pytest.mark.parametrize("dealt", [0, 3, 8, 13])
def test_a_restored_source_goes_on_with_the_very_next_item(dealt: int) -> None:
    source, restored = Shuffled(ITEMS, 7), Shuffled(ITEMS, 7)
    source.draw(dealt)
    restored.draw(5)
    restored.restore(source.state())
    assert restored.draw(20) == source.draw(20)


def test_nothing_to_deal_is_refused() -> None:
    with pytest.raises(ValueError, match="training split is empty"):
        Shuffled([], 0)


def test_a_source_of_other_items_is_refused() -> None:
    state = Shuffled(ITEMS, seed=1).state()
    with pytest.raises(ValueError, match="resume it with the same data"):
        Shuffled(ITEMS[1:], seed=1).restore(state)


def test_other_content_is_refused_where_a_digest_was_recorded() -> None:
    source = Shuffled(ITEMS, 0, "digest")
    source.draw(3)
    assert source.state() == {"dealt": 3, "items": 8, "digest": "digest"}
    with pytest.raises(ValueError, match="the data or its tokens changed since the run began"):
        Shuffled(ITEMS, 0, "other").restore(source.state())
    Shuffled(ITEMS, 0, "other").restore({"dealt": 3, "items": 8})  # of an earlier version
