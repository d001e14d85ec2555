"""Seeds are SplitMix64, and each part of a key moves them."""

from hypothesis import given
from hypothesis import strategies as st

from unmask.seeds import GOLDEN_GAMMA, derive_seed, mix

PARTS = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4)


def test_the_finaliser_is_the_published_one() -> None:
    """The first numbers of SplitMix64 seeded with 1234567, as its reference program prints them."""
    states = [(1234567 + (i + 1) * GOLDEN_GAMMA) % 2**64 for i in range(3)]
    assert [mix(s) for s in states] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@given(PARTS, st.data())
def test_a_seed_depends_on_every_part(parts: list[int], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(parts) - 1))
    changed = [part + (i == index) for i, part in enumerate(parts)]
    assert derive_seed(*parts) != derive_seed(*changed)
    assert 0 <= derive_seed(*parts) < 2**63


def test_a_seed_depends_on_order_and_number_of_parts() -> None:
    seeds = {derive_seed(*p) for p in [(), (0,), (0, 0), (0, 1), (1, 0), (1,), (0, 0, 0)]}
    assert len(seeds) == 7


def test_neighbouring_steps_and_samples_share_no_seed() -> None:
    seeds = {derive_seed(7, step, sample) for step in range(100) for sample in range(100)}
    assert len(seeds) == 10_000
