"""Shared beginnings: prompts that start alike read one copy of its keys and values.

Under block-causal attention the keys of a clean block are a function of the text up to its end, so
the whole blocks of a prompt can be computed once for the sixteen answers of a group, or for every
request behind one system prompt. Whole pages are shared as they are. The last, partly filled page of
a prompt is copied, because each answer goes on writing in its own.

A page is known by a digest of all the text it depends on, which reaches to the end of the block that
holds its last token. The index owns every page in it; those that nobody else owns are given back, all
at once, when a page is wanted and none is free.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import takewhile

from unmask.engine.pages import PagePool
from unmask.models.attention import KEY_CHUNK, round_up


@dataclass(frozen=True, slots=True)
class Opening:
    """The beginning of a prompt that others may read, in whole blocks.

    Attributes:
        length: its tokens.
        block: slots per block; keys of a token depend on the block it stands in.
        names: of its pages, in order.
    """

    length: int
    block: int
    names: tuple[bytes, ...]

    @classmethod
    def of(cls, token_ids: Sequence[int], block: int) -> "Opening":
        """Name the pages of a text."""
        names: list[bytes] = [str(block).encode()]
        for first in range(0, len(token_ids), KEY_CHUNK):
            end = min(round_up(first + KEY_CHUNK, block), len(token_ids))
            text = ",".join(map(str, token_ids[first:end]))
            names.append(blake2b(names[-1] + b":" + text.encode(), digest_size=16).digest())
        return cls(len(token_ids), block, tuple(names[1:]))


@dataclass(frozen=True, slots=True)
class Beginning:
    """What is known of an opening.

    Attributes:
        pages: whole pages, in order.
        tail: a page whose first tokens go on from there; `None` if there is no more.
        length: tokens in all of it.
    """

    pages: list[int]
    tail: int | None
    length: int


NOTHING = Beginning([], None, 0)


class PrefixIndex:
    """Pages of prompts, found by their text."""

    def __init__(self, pool: PagePool) -> None:
        """Know nothing yet."""
        self._pool = pool
        self._pages: dict[bytes, int] = {}

    def next_name(self, opening: Opening) -> bytes | None:
        """Return the name of the first page that is not known; `None` if all are."""
        return next((name for name in opening.names if name not in self._pages), None)

    def find(self, opening: Opening) -> Beginning:
        """Return what is known of an opening from its start."""
        known = [self._pages[name] for name in takewhile(self._pages.__contains__, opening.names)]
        whole = min(opening.length // KEY_CHUNK, len(known))
        tail = known[whole] if len(known) > whole else None
        length = opening.length if tail is not None else whole * KEY_CHUNK
        # A page may end inside a block; what is left of that block has to be fed again from its start.
        return Beginning(known[:whole], tail, length // opening.block * opening.block)

    def add(self, opening: Opening, pages: Sequence[int]) -> None:
        """Remember the pages of an opening; what is known already stays."""
        for name, page in zip(opening.names, pages, strict=False):
            if name not in self._pages:
                self._pages[name] = page
                self._pool.share([page])

    def release(self) -> None:
        """Give up the pages that nobody else owns."""
        idle = [name for name, page in self._pages.items() if self._pool.num_owners(page) == 1]
        self._pool.give_back([self._pages.pop(name) for name in idle])

    def clear(self) -> None:
        """Forget everything, and give up the pages."""
        self._pool.give_back(list(self._pages.values()))
        self._pages = {}
