"""The longest known beginning of a text, against a search through everything that was ever added."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.toy import toy_model
from unmask.engine.pages import PagePool, num_pages
from unmask.engine.prefix_cache import PrefixIndex, PrefixKey
from unmask.models.attention import KEY_CHUNK, round_up
from unmask.types import Prompt

MODEL = toy_model()
BLOCKS = (4, 5, 24, 96)


@dataclass(frozen=True)
class Known:
    """A text whose pages were added."""

    block: int
    ids: tuple[int, ...]


def key_of(ids: tuple[int, ...], block: int) -> PrefixKey:
    return PrefixKey.of(Prompt("toy", 0, (), ids), len(ids), block)


def page_text(ids: tuple[int, ...], block: int, page: int) -> tuple[int, ...]:
    """Return all text that a page's keys and values depend on."""
    return ids[: min(round_up((page + 1) * KEY_CHUNK, block), len(ids))]


def longest_known(known: list[Known], ids: tuple[int, ...], block: int) -> int:
    """Return how much of a text is covered by pages of texts that begin alike, in whole blocks."""
    added = {
        (one.block, page, page_text(one.ids, one.block, page))
        for one in known
        for page in range(num_pages(len(one.ids)))
    }
    length = 0
    for page in range(num_pages(len(ids))):
        if (block, page, page_text(ids, block, page)) not in added:
            break
        length = min((page + 1) * KEY_CHUNK, len(ids))
    return length // block * block


@st.composite
def texts(draw: st.DrawFn) -> list[Known]:
    """Draw texts that often begin alike and differ in one token."""
    found: list[Known] = []
    for _ in range(draw(st.integers(1, 6))):
        block = draw(st.sampled_from(BLOCKS))
        length = draw(st.integers(1, 260)) // block * block
        ids = [3] * length
        for place in draw(st.lists(st.integers(0, 259), max_size=2)):
            if place < length:
                ids[place] = 4
        found.append(Known(block, tuple(ids)))
    return found


@settings(max_examples=80)
@given(texts())
def test_what_is_found_is_the_longest_common_beginning(asked: list[Known]) -> None:
    pool = PagePool(MODEL)
    index = PrefixIndex(pool)
    content: dict[int, tuple[int, tuple[int, ...]]] = {}  # page to what was written in it
    for number, one in enumerate(asked):
        found = index.find(key_of(one.ids, one.block))
        assert found.length == longest_known(asked[:number], one.ids, one.block)
        tail = [] if found.tail is None else [found.tail]
        for place, page in enumerate([*found.pages, *tail]):
            assert content[page] == (one.block, page_text(one.ids, one.block, place))
        pool.share(found.pages)
        pages = found.pages + pool.take(num_pages(len(one.ids)) - len(found.pages))
        for place in range(len(found.pages), len(pages)):
            content[pages[place]] = (one.block, page_text(one.ids, one.block, place))
        index.add(key_of(one.ids, one.block), pages)
        assert index.find(key_of(one.ids, one.block)).length == len(one.ids)


def test_pages_stay_cached_until_the_index_is_cleared() -> None:
    pool = PagePool(MODEL, 4 * KEY_CHUNK)
    index = PrefixIndex(pool)
    pages = pool.take(3)
    index.add(key_of((3,) * 160, 4), pages)
    pool.give_back(pages)
    assert pool.num_available() == 1
    index.clear()
    assert pool.num_available() == 4 and index.find(key_of((3,) * 160, 4)).length == 0


def test_only_pages_without_another_owner_are_released() -> None:
    pool = PagePool(MODEL, 4 * KEY_CHUNK)
    index = PrefixIndex(pool)
    prefix, pages = key_of((3,) * 160, 4), pool.take(3)
    index.add(prefix, pages)
    pool.give_back(pages[1:])
    index.release()
    assert index.find(prefix).pages == pages[:1] and pool.num_available() == 3
    pool.give_back(pages[:1])
    index.release()
    assert index.find(prefix).length == 0 and pool.num_available() == 4


def test_a_page_is_found_again_where_the_one_before_it_was_computed_anew() -> None:
    pool = PagePool(MODEL)
    index = PrefixIndex(pool)
    prefix, pages, others = key_of((3,) * 128, 4), pool.take(2), pool.take(2)
    index.add(prefix, pages)
    pool.give_back(pages[:1])
    index.release()
    assert index.find(prefix).length == 0 and index.next_page(prefix) == prefix.pages[0]
    index.add(prefix, others)
    assert index.find(prefix).pages == [others[0], pages[1]]


def test_cached_pages_are_not_replaced() -> None:
    pool = PagePool(MODEL)
    index = PrefixIndex(pool)
    first, second = pool.take(2), pool.take(2)
    index.add(key_of((3,) * 128, 4), first)
    index.add(key_of((3,) * 128, 4), second)
    assert index.find(key_of((3,) * 128, 4)).pages == first
    pool.give_back(second)
    assert sorted(pool.take(2)) == sorted(second)


@pytest.mark.parametrize("block", [4, 8])
def test_another_block_size_is_another_text(block: int) -> None:
    """Keys of a token depend on the block it stands in."""
    pool = PagePool(MODEL)
    index = PrefixIndex(pool)
    index.add(key_of((3,) * 64, 4), pool.take(1))
    assert index.find(key_of((3,) * 64, block)).length == (64 if block == 4 else 0)


def test_a_page_that_ends_inside_a_block_gives_whole_blocks_only() -> None:
    pool = PagePool(MODEL)
    index = PrefixIndex(pool)
    index.add(key_of((3,) * 120, 24), pool.take(2))
    found = index.find(key_of((3,) * 72 + (4,) * 24, 24))
    assert (len(found.pages), found.tail, found.length) == (1, None, 48)
