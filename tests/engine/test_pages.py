"""A page has the owners it was given to; it is handed out again when none is left, never before."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.toy import SPEC, toy_model
from unmask.engine.pages import SCRAP, PagePool, flat_place, num_pages
from unmask.models.attention import KEY_CHUNK

MODEL = toy_model()


def test_nothing_is_reserved_before_it_is_needed() -> None:
    pool = PagePool(MODEL)
    assert pool.num_pages == 0 and pool.keys.shape[1] == 1  # the scrap page


def test_a_pool_grows_and_keeps_what_it_holds() -> None:
    pool = PagePool(MODEL)
    pool.take(2)
    assert pool.keys.shape == (SPEC.num_layers, 3, SPEC.num_kv_heads, KEY_CHUNK, SPEC.head_width)
    pool.keys.normal_()
    pool.values.normal_()
    keys, values = pool.keys.clone(), pool.values.clone()
    pool.take(3)
    assert torch.equal(pool.keys[:, :3], keys) and torch.equal(pool.values[:, :3], values)
    assert not pool.keys[:, 3:].any() and not pool.values[:, 3:].any()


def test_a_pool_that_is_large_enough_is_left_alone() -> None:
    pool = PagePool(MODEL)
    pages = pool.take(4)
    place = pool.keys.data_ptr()
    pool.give_back(pages)
    assert sorted(pool.take(4)) == sorted(pages) and pool.keys.data_ptr() == place


def test_growing_often_costs_no_more_than_filling() -> None:
    """Memory is at most twice what is held, and moves only when it doubles."""
    pool, places = PagePool(MODEL), set()
    for _ in range(64):
        pool.take(1)
        places.add(pool.keys.shape[1])
    assert len(places) <= 8 and pool.num_pages == 64


def test_a_bound_is_kept_though_growth_doubles() -> None:
    pool = PagePool(MODEL, max_tokens=5 * KEY_CHUNK + KEY_CHUNK - 1)
    pool.take(4)
    assert pool.can_take(1) and not pool.can_take(2)
    pool.take(1)
    assert pool.num_pages == pool.max_pages == 5 and pool.num_available() == 0


def test_less_than_a_page_is_a_page() -> None:
    assert PagePool(MODEL, max_tokens=1).max_pages == 1


def test_the_cache_has_the_format_of_the_weights() -> None:
    assert PagePool(toy_model(dtype=torch.float64)).keys.dtype == torch.float64


def test_what_is_copied_of_a_page_is_one_more_page() -> None:
    """Not what stands behind it, which may be NaN."""
    pool = PagePool(MODEL)
    first, second = pool.take(2)
    pool.keys.normal_()
    pool.values.normal_()
    for held in (pool.keys, pool.values):
        held[:, first, :, 10:] = torch.nan
        held[:, second] = 0
    pool.copy_page(first, second, 10)
    for held in (pool.keys, pool.values):
        assert torch.equal(held[:, second, :, :10], held[:, first, :, :10])
        assert not held[:, second, :, 10:].any()


def test_released_memory_is_gone_and_comes_back() -> None:
    pool = PagePool(MODEL, max_tokens=4 * KEY_CHUNK)
    pool.take(4)
    pool.release_memory()
    assert pool.keys.shape[1] == 1 and pool.num_available() == 4
    assert len(pool.take(4)) == 4 and not pool.keys.any()


class Owners(RuleBasedStateMachine):
    """Pages under random taking, sharing and giving back, against a separate count."""

    @initialize(most=st.one_of(st.none(), st.integers(1, 12)))
    def open(self, most: int | None) -> None:
        self.pool = PagePool(MODEL, None if most is None else most * KEY_CHUNK)
        self.most = most
        self.owners: Counter[int] = Counter()

    def free(self) -> int:
        return 99 if self.most is None else self.most - len(+self.owners)

    @rule(count=st.integers(0, 6))
    def take(self, count: int) -> None:
        assert self.pool.can_take(count) == (count <= self.free())
        if count > self.free():
            return
        pages = self.pool.take(count)
        assert len(set(pages)) == count and SCRAP not in pages
        assert not any(self.owners[page] for page in pages), "handed out twice"
        self.owners.update(pages)

    @precondition(lambda self: +self.owners)
    @rule(data=st.data(), shares=st.booleans())
    def own(self, data: st.DataObject, shares: bool) -> None:
        pages = data.draw(st.lists(st.sampled_from(sorted(+self.owners)), unique=True))
        if shares:
            self.pool.share(pages)
            self.owners.update(pages)
        else:
            self.pool.give_back(pages)
            self.owners.subtract(pages)

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        for page, count in self.owners.items():
            for _ in range(count):
                self.pool.give_back([page])
        assert len(self.pool.take(self.pool.num_pages)) == self.pool.num_pages


Owners.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestOwners = Owners.TestCase


@pytest.mark.parametrize(("length", "pages"), [(0, 0), (1, 1), (64, 1), (65, 2), (128, 2)])
def test_a_length_in_pages(length: int, pages: int) -> None:
    assert num_pages(length) == pages


@given(st.lists(st.integers(0, 3 * KEY_CHUNK - 1), min_size=1, max_size=20))
def test_a_place_is_a_page_and_an_offset(positions: list[int]) -> None:
    table = torch.tensor([7, 2, 5])
    place = flat_place(table.expand(len(positions), -1), torch.tensor(positions))
    expected = [[7, 2, 5][p // KEY_CHUNK] * KEY_CHUNK + p % KEY_CHUNK for p in positions]
    assert place.tolist() == expected
