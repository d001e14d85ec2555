"""Shared beginnings: prompts that start alike read one copy of its keys and values.

Under block-causal attention the keys of a clean block are a function of the text up to its end, so
the whole blocks of a prompt can be computed once for the sixteen answers of a group, or for every
request behind one system prompt. Whole pages are shared as they are. The last, partly filled page of
a prompt is copied, because each answer goes on writing in its own.

The index is a tree: a page is found under the page before it and the text it depends on, which
reaches to the end of the block that holds its last token. It owns every page in it; pages that
nobody else owns are given back, all at once, when a page is wanted and none is free.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unmask.engine.pages import SCRAP, PagePool
from unmask.models.attention import KEY_CHUNK, round_up

Key = tuple[int, int, tuple[int, ...]]  # page before, block size, text


@dataclass(frozen=True, slots=True)
class Beginning:
    """What is known of the beginning of a prompt.

    Attributes:
        pages: whole pages, in order.
        tail: a page whose first tokens go on from there; `None` if there is no more.
        length: tokens in all of it.
    """

    pages: list[int]
    tail: int | None
    length: int


class PrefixIndex:
    """Pages of prompts, found by their text."""

    def __init__(self, pool: PagePool) -> None:
        """Know nothing yet."""
        self._pool = pool
        self._pages: dict[Key, int] = {}

    def find(self, token_ids: Sequence[int], block: int) -> Beginning:
        """Return the longest known beginning of clean text in whole blocks."""
        pages: list[int] = []
        for key in _keys(token_ids, block, pages):
            if key not in self._pages:
                break
            pages.append(self._pages[key])
        whole = min(len(token_ids) // KEY_CHUNK, len(pages))
        tail = pages[whole] if len(pages) > whole else None
        length = len(token_ids) if tail is not None else whole * KEY_CHUNK
        # A page may end inside a block; what is left of that block has to be fed again from its start.
        return Beginning(pages[:whole], tail, length // block * block)

    def add(self, token_ids: Sequence[int], block: int, pages: Sequence[int]) -> None:
        """Remember the pages of a clean text in whole blocks; what is known already stays."""
        known: list[int] = []
        for key, page in zip(_keys(token_ids, block, known), pages, strict=False):
            if key not in self._pages:
                self._pages[key] = page
                self._pool.share([page])
            known.append(self._pages[key])

    def clear(self) -> None:
        """Forget everything, and give up the pages."""
        self._pool.give_back(list(self._pages.values()))
        self._pages = {}


def _keys(token_ids: Sequence[int], block: int, pages: list[int]):
    """Yield the key of each page of a text; `pages` grows, by the caller, with what was found."""
    for first in range(0, len(token_ids), KEY_CHUNK):
        end = min(round_up(first + KEY_CHUNK, block), len(token_ids))
        before = pages[-1] if pages else SCRAP
        yield before, block, tuple(token_ids[first:end])
