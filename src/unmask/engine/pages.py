"""The cache of keys and values: pages of `W` tokens, one stacked tensor for all layers.

`(layers, M, Hk, W, E)`; `W` is `KEY_CHUNK` unless the attention backend needs larger pages. A sequence
owns a list of pages; a page of a shared prefix has several owners.
Page `SCRAP` belongs to no sequence: padding rows write there. The pool hands pages out and takes them back;
the scheduler decides which sequence gets them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.sampling_tensors import on_device
from unmask.models.attention import KEY_CHUNK, round_up
from unmask.models.transformer import Model

SCRAP = 0


class PagePool:
    """The stacked cache tensors, their free pages, and how many owners each page has."""

    def __init__(
        self,
        model: Model,
        max_tokens: int | None = None,
        page_size: int = KEY_CHUNK,
        heads_first: bool = False,
    ) -> None:
        """Start with the scrap page only.

        Args:
            model: the module whose keys and values are cached.
            max_tokens: most cached tokens; `None` for no bound.
            page_size: tokens per page, `W`.
            heads_first: lay all pages of one head out in one piece, in memory `(layers, Hk, M, W, E)`, and
                take all the memory of a bounded cache at once: its size is then one shape.
        """
        self.page_size = page_size
        self._heads_first = heads_first
        spec = model.spec
        shape = (spec.num_layers, 1, spec.num_kv_heads, page_size, spec.head_width)
        self._empty = torch.zeros(shape, dtype=model.dtype, device=model.device)
        self.max_pages = None if max_tokens is None else max(1, max_tokens // page_size)
        self.release_memory()

    def release_memory(self) -> None:
        """Free the memory and every page."""
        self.keys, self.values = self._empty, self._empty.clone()
        self._owners = [1]  # the scrap page is never free
        self._free: list[int] = []

    @property
    def num_pages(self) -> int:
        """Number of allocated pages, without the scrap page."""
        return len(self._owners) - 1

    @property
    def num_used(self) -> int:
        """Number of pages that have an owner."""
        return self.num_pages - len(self._free)

    def num_available(self) -> int | None:
        """Return the number of pages that can be handed out; `None` for no bound."""
        if self.max_pages is None:
            return None
        return self.max_pages - self.num_pages + len(self._free)

    def can_take(self, count: int) -> bool:
        """Return whether `count` pages can be handed out."""
        available = self.num_available()
        return available is None or count <= available

    def take(self, count: int) -> list[int]:
        """Return pages with one owner each, zeroed."""
        assert self.can_take(count)
        if count > len(self._free):
            self._grow(count - len(self._free))
        pages = [self._free.pop() for _ in range(count)]
        for page in pages:
            self._owners[page] = 1
        # Old values may be NaN, and a masked NaN still spoils the weighted sum of values: 0 * NaN.
        if pages:
            # Dimension M of (layers, M, Hk, W, E).
            index = on_device(pages, self.keys.device)
            self.keys.index_fill_(1, index, 0)
            self.values.index_fill_(1, index, 0)
        return pages

    def num_owners(self, page: int) -> int:
        """Return the number of owners of a page."""
        return self._owners[page]

    def share(self, pages: list[int]) -> None:
        """Add an owner to each page."""
        for page in pages:
            self._owners[page] += 1

    def give_back(self, pages: list[int]) -> None:
        """Remove one owner from each page; pages without an owner are free."""
        for page in pages:
            self._owners[page] -= 1
            if not self._owners[page]:
                self._free.append(page)

    def copy_page(self, source: int, target: int, count: int) -> None:
        """Copy the first `count` tokens of one page to another; the rest may be NaN."""
        self.keys[:, target, :, :count] = self.keys[:, source, :, :count]
        self.values[:, target, :, :count] = self.values[:, source, :, :count]

    def _grow(self, missing: int) -> None:
        # Doubling keeps the total cost of copies linear in the number of pages.
        more = max(missing, self.num_pages)
        if self.max_pages is not None:
            left = self.max_pages - self.num_pages
            more = left if self._heads_first else min(more, left)
        keys, values = self._padded(self.keys, more), self._padded(self.values, more)
        self.keys, self.values = keys, values
        first = len(self._owners)
        self._owners += [0] * more
        # Popped from the end: low page numbers first, so that a small batch touches little memory.
        self._free = [*reversed(range(first, first + more)), *self._free]

    def _padded(self, cache: Tensor, more: int) -> Tensor:
        """Return a copy of `cache (layers, M, Hk, W, E)` with `more` pages."""
        # Zeros, not empty memory: a masked key of NaN would still spoil the weighted sum of values.
        if self._heads_first:  # pads M of the layout in memory, (layers, Hk, M, W, E)
            return F.pad(cache.transpose(1, 2), (0, 0, 0, 0, 0, more)).transpose(1, 2)
        return F.pad(cache, (0, 0, 0, 0, 0, 0, 0, more))


def num_pages(length: int, page_size: int = KEY_CHUNK) -> int:
    """Return the number of pages that hold `length` tokens."""
    return round_up(length, page_size) // page_size


def flat_place(table: Tensor, position: Tensor, page_size: int = KEY_CHUNK) -> Tensor:
    """Return indices `(T,)` of positions `(T,)` into the pages flattened to `(M * W,)`.

    Args:
        table: `(T, pages)` the row of the page table of each position.
        position: `(T,)`.
        page_size: `W`.
    """
    page = table.gather(1, (position // page_size)[:, None])[:, 0]
    return page * page_size + position % page_size
