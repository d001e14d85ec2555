"""The prefix cache: prompts with the same beginning read one copy of its keys and values.

Under block-causal attention the keys of a clean block depend on the prompt up to the block's end only, so
the whole blocks of a prompt are computed once for all responses of a group, or for all requests with one
system prompt. Whole pages are shared as they are. The last, partly filled page of a prompt is copied,
because each response continues in its own.

A page is keyed by a digest of everything its keys depend on, which reaches to the end of the block that
holds its last token. The index is one owner of each of its pages; pages without another owner are
released, all at once, when a page is needed and none is free.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from unmask.engine.pages import PagePool
from unmask.models.attention import KEY_CHUNK, round_up
from unmask.types import Prompt


@dataclass(frozen=True, slots=True)
class PrefixKey:
    """The shareable beginning of a prompt, in whole blocks.

    Attributes:
        length: number of tokens.
        block: positions per block; keys of a token depend on the block that holds it.
        pages: one key per page, in order.
    """

    length: int
    block: int
    pages: tuple[bytes, ...]

    @classmethod
    def of(cls, prompt: Prompt, length: int, block: int, page_size: int = KEY_CHUNK) -> "PrefixKey":
        """Return the key of the first `length` tokens of a prompt, a multiple of `block`."""
        ends = [min(round_up(end, block), length) for end in range(page_size, length, page_size)]
        digests = prompt.prefix_digests((*ends, length) if length else ())
        # Two pages may end in one block, and their digests are then equal: the key has the page's number.
        keys = (b"%d:%d:%b" % (block, number, digest) for number, digest in enumerate(digests))
        return cls(length, block, tuple(keys))


@dataclass(frozen=True, slots=True)
class PrefixHit:
    """The cached part of a prefix.

    Attributes:
        pages: whole pages, in order.
        tail: the page that holds the rest, to be copied; `None` if the rest is not cached.
        length: number of cached tokens, in whole blocks.
    """

    pages: list[int]
    tail: int | None
    length: int


NO_PREFIX = PrefixKey(0, 1, ())


class PrefixIndex:
    """Pages of prompts, found by their keys."""

    def __init__(self, pool: PagePool) -> None:
        """Start empty."""
        self._pool = pool
        self._pages: dict[bytes, int] = {}

    def next_page(self, prefix: PrefixKey) -> bytes | None:
        """Return the key of the first page that is not cached; `None` if all are."""
        return next((key for key in prefix.pages if key not in self._pages), None)

    def find(self, prefix: PrefixKey) -> PrefixHit:
        """Return the longest cached beginning of a prefix."""
        cached = [self._pages[key] for key in takewhile(self._pages.__contains__, prefix.pages)]
        page_size = self._pool.page_size
        num_whole = min(prefix.length // page_size, len(cached))
        tail = cached[num_whole] if len(cached) > num_whole else None
        length = prefix.length if tail is not None else num_whole * page_size
        # A page may end inside a block, which has to be fed again from its start.
        return PrefixHit(cached[:num_whole], tail, length // prefix.block * prefix.block)

    def add(self, prefix: PrefixKey, pages: Sequence[int]) -> None:
        """Add the pages of a prefix; keys that are cached keep their page."""
        for key, page in zip(prefix.pages, pages, strict=False):
            if key not in self._pages:
                self._pages[key] = page
                self._pool.share([page])

    def release(self) -> None:
        """Give back the pages that have no other owner."""
        idle = [key for key, page in self._pages.items() if self._pool.num_owners(page) == 1]
        self._pool.give_back([self._pages.pop(key) for key in idle])

    def clear(self) -> None:
        """Give back every page."""
        self._pool.give_back(list(self._pages.values()))
        self._pages = {}
