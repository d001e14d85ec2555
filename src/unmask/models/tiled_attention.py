"""Tiled attention for packs: each tile of queries gathers only the keys it may attend to.

A dense mask over a whole document costs the square of its clean copy and all its noisy copies, although
a noisy block attends only to the clean blocks before it and to itself. So a document is cut into tiles of
queries, each with only its own keys, and tiles of similar size run as one batch. The result equals that
of the dense mask: within a tile, `sees` decides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.models.attention import KEY_TILE, Attend, gather_rows, round_up, sees
from unmask.models.heads import widen

# Queries of a document that share one set of keys: a smaller tile masks fewer keys, a larger one gathers fewer.
QUERY_ROWS = 256
# Query-key pairs of a batch, unless one tile has more: what a batch gathers and masks is in memory at a time.
BATCH_PAIRS = 2**22
# Pairs of a pack whose batches are laid out once, and not for every layer and pass: at most 64 MiB of masks.
KEPT_PAIRS = 2**24
# torch's fused kernel, which holds no scores of all pairs, and its backward pass.
_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Batch(NamedTuple):
    """Tiles of similar size as padded rows.

    Attributes:
        queries: `(B, Lq)` packed index of the queries.
        keys: `(B, Lk)` packed index of the keys.
        bias: what is added to scores, `(B, 1, Lq, Lk)`: 0 where a query attends to a key, else -inf. Every
            query attends to at least one. `(B, 1, 1, Lk)` where it is the same for all queries of a tile.
    """

    queries: Tensor
    keys: Tensor
    bias: Tensor

    def lay(self) -> "Batch":
        """Return the batch."""
        return self


@dataclass(frozen=True, slots=True)
class CompactBatch:
    """A batch that takes memory for its queries, and not for its pairs of queries and keys.

    Attributes:
        queries: `(B, Lq)` packed index of the queries.
        order: `(T,)` packed index of each token, sorted.
        shifts: `(4 B,)` of each range of keys, from its place among the batch's keys to that in `order`:
            three ranges of every tile and its padding.
        counts: `(4 B,)` number of keys in each range.
        num_leading: number of leading keys that every query attends to.
        hidden: `(B, 1, Lq or 1, n)` bool, True where a query does not attend to one of the next `n` keys; later
            ones are padding.
    """

    queries: Tensor
    order: Tensor
    shifts: Tensor
    counts: Tensor
    num_leading: int
    hidden: Tensor

    @property
    def keys(self) -> Tensor:
        """Packed index of the keys, `(B, Lk)`."""
        shifts = self.shifts.repeat_interleave(self.counts)
        place = torch.arange(len(shifts), device=shifts.device) + shifts
        # Padding may be longer than the pack.
        return self.order[place.clamp(max=len(self.order) - 1)].view(len(self.queries), -1)

    def lay(self) -> Batch:
        """Return the batch with its index of keys and its mask."""
        keys = self.keys
        bias = torch.zeros(*self.hidden.shape[:3], keys.shape[1])
        some, padding = bias[..., self.num_leading :].tensor_split((self.hidden.shape[3],), -1)
        some.masked_fill_(self.hidden, -torch.inf)
        padding.fill_(-torch.inf)
        return Batch(self.queries, keys, bias)


@dataclass(frozen=True, slots=True)
class TiledAttend:
    """Attention on CPU in batches of padded rows. What grows with tokens x keys is in memory for one batch at a time.

    Attributes:
        batches: in the order in which their gradients are summed.
        place: `(T,)` index of each packed token in the batches' queries, flattened and joined.
    """

    batches: Sequence[Batch | CompactBatch]
    place: Tensor

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within rows; `layer` is unused, because nothing is cached."""
        return _InBatches.apply(self, q, k, v)


class _InBatches(torch.autograd.Function):
    """`TiledAttend`; gathered keys and masks are made once more for the backward pass, and not kept."""

    @staticmethod
    def forward(ctx: Any, attend: TiledAttend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mixed: list[Tensor] = []  # (B, H, Lq, E) each
        sums: list[Tensor] = []  # (B, H, Lq) each: logarithms of the softmax's denominators
        for batch in attend.batches:
            queries, keys, bias = batch.lay()
            heads = _heads((q, k, v), (queries, keys, keys))
            found = _forward(*heads, attn_mask=bias.to(q.dtype))
            mixed.append(found[0])
            sums.append(found[1])
        ctx.attend = attend
        ctx.save_for_backward(q, k, v, *mixed, *sums)
        rows = [tile.transpose(1, 2).flatten(0, 1) for tile in mixed]
        return torch.cat(rows).index_select(0, attend.place)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        attend, (gradient,) = ctx.attend, gradients
        q, k, v, *kept = ctx.saved_tensors
        counts = [batch.queries.numel() for batch in attend.batches]
        # Rows that repeat a tile's last query have no gradient.
        rows = gradient.new_zeros(sum(counts), *gradient.shape[1:])
        parts = rows.index_add_(0, attend.place, gradient).split(counts)
        mixed, sums = kept[: len(counts)], kept[len(counts) :]
        # Summed in fp32 or wider: a key has a gradient from every tile that reads it.
        totals = [torch.zeros_like(widen(x)) for x in (q, k, v)]
        for batch, part, *of_forward in zip(attend.batches, parts, mixed, sums, strict=True):
            queries, keys, bias = batch.lay()
            above = part.unflatten(0, queries.shape).transpose(1, 2)
            indices = queries, keys, keys
            heads = _heads((q, k, v), indices)
            found = _backward(above, *heads, *of_forward, 0.0, False, attn_mask=bias.to(q.dtype))
            for total, index, of_heads in zip(totals, indices, found, strict=True):
                total.index_add_(0, index.flatten(), widen(of_heads.transpose(1, 2).flatten(0, 1)))
        return None, *(total.to(q.dtype) for total in totals)


def _heads(packed: Sequence[Tensor], indices: Sequence[Tensor]) -> list[Tensor]:
    """Return rows `(B, H, L, E)` of queries, keys and values."""
    return [gather_rows(x, i).transpose(1, 2) for x, i in zip(packed, indices, strict=True)]


def plan_documents(structure: Tensor) -> Attend:
    """Plan attention for a pack: FlexAttention on a GPU, tiles elsewhere.

    Args:
        structure: `(4, T)`, in any order.
    """
    if not structure.is_cuda:
        return plan_tiles(structure)
    from unmask.models.flex_attention import plan_flex  # torch's compiler takes a second to import

    return plan_flex(structure)


def plan_tiles(structure: Tensor) -> TiledAttend:
    """Plan attention for a pack in tiles of queries, each with only the keys it may attend to.

    A tile of the clean copy has the clean blocks up to its last one for keys; a tile of noisy copies
    has the clean blocks before its last one, and itself. So the cost of a document grows with its clean
    copy, not with the square of its noisy ones.

    Args:
        structure: `(4, T)`, in any order.
    """
    tiles = _cut_tiles(structure)
    is_kept = int((tiles.size * tiles.counts.sum(-1)).sum()) <= KEPT_PAIRS
    batches: list[CompactBatch] = []
    place = torch.empty_like(tiles.order)
    start = 0
    for members in _group_sizes(tiles.size, tiles.counts.sum(-1)):
        size, first = tiles.size[members], tiles.first[members]
        column = torch.arange(int(size.max()), device=structure.device)
        # (B, Lq) packed index of the queries; a short tile repeats its last one.
        row = tiles.order[first[:, None] + torch.minimum(column, size[:, None] - 1)]
        is_own = column < size[:, None]
        flat = start + torch.arange(row.numel(), device=structure.device).view(row.shape)
        place[row[is_own]] = flat[is_own]
        start += row.numel()
        batches += _cut_batches(structure, row, tiles, members, is_kept)
    return TiledAttend([b.lay() for b in batches] if is_kept else batches, place)


def _cut_batches(
    structure: Tensor, row: Tensor, tiles: "_Tiles", members: Tensor, is_kept: bool
) -> Iterator[CompactBatch]:
    """Yield batches of at most `BATCH_PAIRS` pairs, or of one tile.

    Args:
        structure: `(4, T)`.
        row: `(tiles, Lq)` packed index of the queries.
        tiles: of the whole pack.
        members: `(tiles,)` those that are cut into batches.
        is_kept: whether their masks are kept, so that it does not pay to find what all queries attend to.
    """
    counts = tiles.counts[members]
    num_keys = round_up(int(counts.sum(-1).max()), KEY_TILE)
    starts = F.pad(tiles.starts[members], (0, 1))
    counts = torch.cat((counts, num_keys - counts.sum(-1, keepdim=True)), 1)  # (tiles, 4)
    size = max(1, BATCH_PAIRS // (row.shape[1] * num_keys))
    place = torch.arange(num_keys, device=row.device)
    for queries, begin, count in zip(*(x.split(size) for x in (row, starts, counts)), strict=True):
        flat = count.flatten()
        shifts = begin.flatten() - (flat.cumsum(0) - flat)
        batch = CompactBatch(queries, tiles.order, shifts, flat, 0, row)
        num_real = num_keys - count[:, -1:]
        keys, is_key = batch.keys, place < num_real  # (B, Lk)
        seers, first = queries, 0
        if not is_kept:
            # Queries are sorted by block and copy: what the first and the last attend to, all attend to.
            ends = queries[:, [0, -1]]
            of_ends = sees(structure[:, ends][..., None], structure[:, keys][..., None, :])
            first = int((of_ends.all(1) & is_key).long().cumprod(-1).sum(-1).min())
            if (structure[:, ends[:, 0]] == structure[:, ends[:, 1]]).all():
                seers = ends[:, :1]
        some = slice(first, int(num_real.max()))
        seen = sees(structure[:, seers][..., None], structure[:, keys[:, some]][..., None, :])
        hidden = ~(seen & is_key[:, None, some])
        yield replace(batch, num_leading=first, hidden=hidden[:, None])


class _Tiles(NamedTuple):
    """A pack's tiles of queries, as ranges of `order`.

    Attributes:
        order: `(T,)` packed index of each token, sorted by document, then clean before noisy, then
            block.
        first: `(tiles,)` start of a tile's queries in `order`.
        size: `(tiles,)` number of its queries.
        starts: `(tiles, 3)` starts of its keys: of its prefix, of its document's clean copy, of itself.
        counts: `(tiles, 3)` number of keys in each of the three.
    """

    order: Tensor
    first: Tensor
    size: Tensor
    starts: Tensor
    counts: Tensor


def _cut_tiles(structure: Tensor) -> _Tiles:
    document, block, copy, prefix = structure
    num_blocks, num_copies = block.max() + 2, copy.max() + 1

    def sort_key(half: Tensor, block: Tensor, copy: Tensor | int = 0) -> Tensor:
        # Lexicographic order of (half, block, copy) as one integer.
        return (half * num_blocks + block) * num_copies + copy

    half = document * 2 + (copy > 0)  # even: the clean copy of a document; odd: its noisy copies
    key, order = sort_key(half, block, copy).sort(stable=True)
    half = half[order]
    row = torch.arange(len(key), device=key.device)
    # By the start of its run, so that a block is never cut: a tile may exceed its size by one block.
    offset = _run_starts(key) - _run_starts(half)
    tile = half * len(key) + offset // QUERY_ROWS
    first = (_run_starts(tile) == row).nonzero()[:, 0]
    size = torch.diff(first, append=first.new_tensor([len(key)]))

    leader = order[first]
    is_clean = copy[leader] == 0
    limit = block[order[first + size - 1]] + is_clean  # attends to clean blocks below this
    # Clean copies that a tile reads: of its prefix (-1 for none: an empty range), and of its document.
    sources = torch.stack((prefix[leader], document[leader]), 1)
    starts = torch.searchsorted(key, sort_key(sources * 2, torch.zeros_like(sources)))
    ends = torch.searchsorted(key, sort_key(sources * 2, limit[:, None]))
    counts = torch.cat((ends - starts, (size * ~is_clean)[:, None]), 1)
    return _Tiles(order, first, size, torch.cat((starts, first[:, None]), 1), counts)


def _run_starts(values: Tensor) -> Tensor:
    """Return, for each element, the start of its run of equal values."""
    row = torch.arange(len(values), device=values.device)
    is_first = F.pad(values[1:] != values[:-1], (1, 0), value=True)
    return row.where(is_first, 0).cummax(0).values


def _group_sizes(size: Tensor, num_keys: Tensor) -> list[Tensor]:
    """Return groups of tiles of similar size: queries within a factor of two, keys within an eighth."""
    widths = torch.exp2(size.double().log2().ceil()).long()
    octave = torch.exp2(num_keys.double().log2().floor() - 3).clamp(min=KEY_TILE)
    lengths = (num_keys / octave).ceil() * octave
    kind = widths * (int(lengths.max()) + 1) + lengths.long()
    return [(kind == value).nonzero()[:, 0] for value in kind.unique().tolist()]
