"""Mixtures: shares that are exact at every point, and positions that are restored."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.data.mixture import Mixture
from unmask.data.shuffled import Shuffled


def mixture(weights: list[float], seed: int = 0, size: int = 5) -> Mixture[str]:
    """Return a mixture of sources `a0 a1 ...`, `b0 b1 ...`, and so on."""
    items = [[f"{chr(97 + n)}{i}" for i in range(size + n)] for n in range(len(weights))]
    return Mixture([Shuffled(part, seed + n) for n, part in enumerate(items)], weights)


@given(st.lists(st.floats(0.1, 9), min_size=1, max_size=4), st.integers(1, 60))
def test_shares_are_exact_to_one_draw_per_source(weights: list[float], count: int) -> None:
    drawn = Counter(draw.item[0] for draw in mixture(weights).draw(count))
    for n, weight in enumerate(weights):
        share = weight / sum(weights) * count
        assert abs(drawn[chr(97 + n)] - share) < len(weights)


def test_each_source_has_shuffled_passes_of_its_own() -> None:
    draws = mixture([1, 3]).draw(40)
    assert len({draw.key for draw in draws}) == 40
    small, large = ([d.item for d in draws if d.item[0] == name] for name in "ab")
    assert (len(small), len(large)) == (10, 30)
    assert sorted(small[:5]) == sorted(small[5:]) == [f"a{n}" for n in range(5)]
    assert small[:5] != small[5:]
    alone = Shuffled([f"a{n}" for n in range(5)], 0).draw(10)
    assert small == [draw.item for draw in alone]


@pytest.mark.parametrize("count", [0, 1, 7, 23])
def test_a_restored_mixture_goes_on_with_the_next_item(count: int) -> None:
    source, restored = mixture([1, 2.5, 0.3]), mixture([1, 2.5, 0.3])
    source.draw(count)
    restored.draw(4)
    restored.restore(source.state())
    assert restored.draw(30) == source.draw(30)


def test_another_number_of_sources_is_refused() -> None:
    with pytest.raises(ValueError, match="the data has 2 sources, but the resumed run had 3"):
        mixture([1, 1]).restore(mixture([1, 1, 1]).state())
    with pytest.raises(ValueError, match="2 sources, but the resumed run had 0"):
        mixture([1, 1]).restore({"dealt": 3, "items": 5})
