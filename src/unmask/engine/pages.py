"""The cache of keys and values: pages of `KEY_CHUNK` tokens, one stacked tensor for all layers.

`(layers, M, Hk, W, E)`. A sequence owns a list of pages; a page of a shared prefix has several owners.
Page `SCRAP` belongs to no sequence: padding rows write there. The pool hands pages out and takes them back;
the scheduler decides which sequence gets them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.diffusion.sampling_tensors import tensor_on
from unmask.models.attention import KEY_CHUNK, round_up
from unmask.models.transformer import Model

SCRAP = 0


class PagePool:
    """The stacked cache tensors, their free pages, and how many owners each page has."""

    def __init__(self, model: Model, max_tokens: int | None = None) -> None:
        """Start with the scrap page only.

        Args:
            model: the module whose keys and values are cached.
            max_tokens: most cached tokens; `None` for no bound.
        """
        spec = model.spec
        shape = (spec.num_layers, 1, spec.num_kv_heads, KEY_CHUNK, spec.head_width)
        self._empty = torch.zeros(shape, dtype=model.dtype, device=model.device)
        self.max_pages = None if max_tokens is None else max(1, max_tokens // KEY_CHUNK)
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
        index = tensor_on(self.keys.device, pages)
        for cache in (self.keys, self.values):
            cache.index_fill_(1, index, 0)  # dimension M of (layers, M, Hk, W, E)
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
            more = min(more, self.max_pages - self.num_pages)
        # Zeros, not empty memory: a masked key of NaN would still spoil the weighted sum of values.
        padding = (0, 0, 0, 0, 0, 0, 0, more)  # pads dimension M of (layers, M, Hk, W, E)
        keys, values = F.pad(self.keys, padding), F.pad(self.values, padding)
        self.keys, self.values = keys, values
        first = len(self._owners)
        self._owners += [0] * more
        # Popped from the end: low page numbers first, so that a small batch touches little memory.
        self._free = [*reversed(range(first, first + more)), *self._free]


def num_pages(length: int) -> int:
    """Return the number of pages that hold `length` tokens."""
    return round_up(length, KEY_CHUNK) // KEY_CHUNK


def flat_place(table: Tensor, position: Tensor) -> Tensor:
    """Return indices `(T,)` of positions `(T,)` into the pages flattened to `(M * W,)`.

    Args:
        table: `(T, pages)` the row of the page table of each position.
        position: `(T,)`.
    """
    page = table.gather(1, (position // KEY_CHUNK)[:, None])[:, 0]
    return page * KEY_CHUNK + position % KEY_CHUNK
