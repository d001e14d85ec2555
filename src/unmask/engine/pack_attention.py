"""Attention of a pack by the engine's own attention: bits that depend on a row's query and keys alone.

The engine sums a row's keys page by page from position 0, the learner's attention (`plan_documents`) in tiles
of a pack, so the two differ in the last bits. Here the tokens of a pack are laid out as the engine's
cache would hold them, and the engine's attention reads them. A *sequence* is the clean copy of a document,
or one noisy copy; it has its own pages from the one with its first token on, and before those the pages
of the tokens it continues, the clean copy of its document and then its prefix:

    positions        0 .. W            W .. 2W           2W .. 3W
    clean copy       page 1            page 2            page 3
    noisy copy       page 1            page 4: clean keys before the block, then its own

So every row reads the keys that the engine's row read, from pages of the same content, up to the same
limit: the end of its block, or of the canvas under full attention. A noisy copy of a block takes a page or two
of memory while a layer runs.

The backward pass differentiates `plan_documents`: the same mathematics, in other last bits.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.engine.attention import Shapes, backend_of, row_attention
from unmask.engine.batch_plan import Rows
from unmask.models.attention import KEY_CHUNK, Attend, gather_rows
from unmask.models.tiled_attention import plan_documents


class Pages(NamedTuple):
    """A pack as the engine's cache would hold it.

    Attributes:
        rows: the tokens of the pack as rows of a tick, in order.
        table: `(sequences, pages)` page numbers.
        source: `(M, W)` packed index of the token at every place; page 0 is the scrap page, and places
            that no row reads hold token 0.
    """

    rows: Rows
    table: Tensor
    source: Tensor


def lay_pages(structure: Tensor, positions: Tensor) -> Pages:
    """Lay the tokens of a pack on pages.

    Args:
        structure: `(4, T)` as `layout.assemble` lays it: every copy is contiguous, its positions ascend by
            one, and it is preceded by the copy that it continues.
        positions: `(T,)`.
    """
    document, _, copy, prefix = structure
    row = torch.arange(len(positions), device=positions.device)
    differs = structure[:3, 1:] != structure[:3, :-1]  # of document, block, copy
    is_first = F.pad(differs[::2].any(0), (1, 0), value=True)
    sequence, first = is_first.cumsum(0) - 1, is_first.nonzero()[:, 0]
    counts = torch.diff(first, append=first.new_tensor([len(row)]))
    # A row sees up to the last row of its block and copy.
    last = F.pad(differs.any(0), (0, 1), value=True).nonzero()[:, 0]
    limit = positions[last[torch.searchsorted(last, row)]] + 1

    # The sequence that each one continues: a noisy copy its clean copy if there is one, else its prefix.
    is_clean = copy[first] == 0
    clean = document.new_full((int(document.max()) + 2,), -1)  # the last entry is that of prefix -1
    clean[document[first][is_clean]] = is_clean.nonzero()[:, 0]
    own, of_prefix = clean[document[first]], clean[prefix[first]]
    parent = own.where(~is_clean & (own >= 0), of_prefix)

    begin = positions[first]
    end = begin + counts
    first_page = begin // KEY_CHUNK
    num_own = (end - 1) // KEY_CHUNK + 1 - first_page
    # Page j of a sequence is number `shift + j`, where it is its own; pages are numbered from 1.
    shift = 1 + num_own.cumsum(0) - num_own - first_page
    column = torch.arange(int((first_page + num_own).max()), device=row.device)
    table = (shift[:, None] + column).where(column < (first_page + num_own)[:, None], 0)
    owner = torch.arange(len(first), device=row.device).repeat_interleave(num_own)
    page = torch.arange(1, len(owner) + 1, device=row.device)
    place = (page - shift[owner])[:, None] * KEY_CHUNK + torch.arange(KEY_CHUNK, device=row.device)
    holder = owner[:, None].expand_as(place)  # (M - 1, W) sequence with the token at a place
    for _ in range(2):  # a noisy copy continues a clean one, which continues a prefix
        table = table.where(column >= first_page[:, None], table[parent])
        holder = holder.where(place >= begin[holder], parent[holder])
    source = (first[holder] + place - begin[holder]).where(place < end[owner, None], 0)
    num_rows = len(row)  # runs of rows with one limit: bounds that no attention here reads
    rows = Rows(sequence, positions, limit, first, counts, longest_run=num_rows, most_runs=num_rows)
    return Pages(rows, table, F.pad(source, (0, 0, 1, 0)))


@dataclass(frozen=True, slots=True)
class PagedAttend:
    """Attention of a pack over pages.

    Attributes:
        source: `(M, W)` packed index of the token at every place of every page.
        keys: `(1, M, Hk, W, E)`, overwritten by every layer.
        values: the same.
        attend: the engine's attention with rows and pages of the pack.
        twin: the same mathematics, differentiable; `None` where nothing is differentiated.
    """

    source: Tensor
    keys: Tensor
    values: Tensor
    attend: Attend
    twin: Attend | None

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within the pack; `layer` is unused, because nothing is cached."""
        return _ForwardByPages.apply(self, q, k, v)

    def read(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Fill the pages with `k, v (T, Hk, E)`, then let `q (T, H, E)` attend."""
        for pages, fed in ((self.keys, k), (self.values, v)):
            pages[0].copy_(gather_rows(fed, self.source).transpose(1, 2))
        # This writes every row once more, to the same places.
        return self.attend(0, q, k, v)


class _ForwardByPages(torch.autograd.Function):
    """`PagedAttend.read` forward, the gradients of `PagedAttend.twin` backward."""

    @staticmethod
    def forward(ctx: Any, attend: PagedAttend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.attend = attend
        ctx.save_for_backward(q, k, v)
        return attend.read(q, k, v)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        inputs = [tensor.detach().requires_grad_() for tensor in ctx.saved_tensors]
        assert ctx.attend.twin is not None
        with torch.enable_grad():
            mixed = ctx.attend.twin(0, *inputs)
        return None, *torch.autograd.grad(mixed, inputs, gradient)


def plan_pages(structure: Tensor, positions: Tensor, shapes: Shapes) -> PagedAttend:
    """Plan attention for a pack, with the bits of the engine's.

    Args:
        structure: `(4, T)`; see `lay_pages`.
        positions: `(T,)`.
        shapes: of the model.
    """
    backend, spec = backend_of(row_attention("auto", shapes)), shapes.spec
    assert backend.page_size == KEY_CHUNK and not backend.heads_first
    rows, table, source = lay_pages(structure, positions)
    size = (1, len(source), spec.num_kv_heads, KEY_CHUNK, spec.head_width)
    keys, values = torch.empty(2, *size, dtype=shapes.dtype, device=shapes.device)
    attend = backend.build(spec)(rows, table, keys, values)
    twin = plan_documents(structure) if torch.is_grad_enabled() else None
    return PagedAttend(source, keys, values, attend, twin)
