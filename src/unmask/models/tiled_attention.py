"""Tiles: the attention of a pack, cut so that nobody pays for keys that nobody sees.

A dense mask over a whole document costs the square of its clean text and all its noisy copies, though
a noisy block reads only the clean text before it and itself. So a document is cut into tiles of
queries, each with just the keys it may see, and tiles of about one size run as one batch. The result
is that of the dense mask (`sees`), which stays the only word on who sees whom.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.models.attention import KEY_TILE, Attend, DenseAttend, round_up, sees

# Queries of a document that share one set of keys: fewer see less, more gather less.
QUERY_ROWS = 256


def plan_documents(structure: Tensor) -> Attend:
    """Plan attention for a pack: FlexAttention on a GPU, tiles elsewhere.

    Args:
        structure: `(4, T)`, in any order.
    """
    if not structure.is_cuda:
        return plan_tiles(structure)
    from unmask.models.flex_attention import plan_flex  # torch's compiler takes a second to import

    return plan_flex(structure)


def plan_tiles(structure: Tensor) -> DenseAttend:
    """Plan attention for a pack: documents are cut into tiles of queries, each with just the keys it may see.

    A tile of clean text has the clean text up to its last block for keys; a tile of noisy copies
    the clean text before its last block, and itself. So the cost of a document grows with its clean
    text, not with the square of its copies.

    Args:
        structure: `(4, T)`, in any order.
    """
    tiles = _cut_tiles(structure)
    groups = _group_sizes(tiles.size, tiles.counts.sum(-1))
    queries: list[Tensor] = []
    keys: list[Tensor] = []
    masks: list[Tensor] = []
    place = torch.empty_like(tiles.order)
    start = 0
    for members in groups:
        size, first, counts = tiles.size[members], tiles.first[members], tiles.counts[members]
        column = torch.arange(int(size.max()), device=structure.device)
        row = tiles.order[first[:, None] + torch.minimum(column, size[:, None] - 1)]  # (B, Lq)
        is_own = column < size[:, None]
        flat = start + torch.arange(row.numel(), device=structure.device).view(row.shape)
        place[row[is_own]] = flat[is_own]
        start += row.numel()

        slot = torch.arange(round_up(int(counts.sum(-1).max()), KEY_TILE), device=structure.device)
        ends = counts.cumsum(-1)
        span = (slot[:, None] >= ends[:, None]).sum(-1)  # (B, Lk), which of its key ranges
        is_key = span < counts.shape[1]
        span = span.clamp(max=counts.shape[1] - 1)
        skipped = (tiles.starts[members] - (ends - counts)).gather(1, span)
        key = tiles.order[(skipped + slot).where(is_key, 0)]
        mask = sees(structure[:, row][..., None], structure[:, key][..., None, :])
        queries.append(row.flatten())
        keys.append(key.flatten())
        masks.append((mask & is_key[:, None])[:, None])
    return DenseAttend(torch.cat(queries), torch.cat(keys), tuple(masks), place)


class _Tiles(NamedTuple):
    """A pack's tiles of queries, as ranges of `order`.

    Attributes:
        order: `(T,)` packed index of each token, sorted by document, then clean before noisy, then
            block.
        first: `(tiles,)` where a tile's queries start.
        size: `(tiles,)` how many there are.
        starts: `(tiles, 3)` where its keys start: its prefix's, its document's clean, its own.
        counts: `(tiles, 3)` how many of each.
    """

    order: Tensor
    first: Tensor
    size: Tensor
    starts: Tensor
    counts: Tensor


def _cut_tiles(structure: Tensor) -> _Tiles:
    document, block, copy, prefix = structure
    num_blocks, num_copies = block.max() + 2, copy.max() + 1

    def sort_key(text: Tensor, block: Tensor, copy: Tensor | int = 0) -> Tensor:
        return (text * num_blocks + block) * num_copies + copy

    text = document * 2 + (copy > 0)  # a document's clean text, or its noisy copies
    key, order = sort_key(text, block, copy).sort(stable=True)
    text = text[order]
    row = torch.arange(len(key), device=key.device)
    # A noisy copy is never cut: a tile holds whole blocks, and may exceed its size by one.
    in_text = _run_starts(key) - _run_starts(text)
    tile = text * len(key) + in_text // QUERY_ROWS
    first = (_run_starts(tile) == row).nonzero()[:, 0]
    size = torch.diff(first, append=first.new_tensor([len(key)]))

    leader = order[first]
    is_clean = copy[leader] == 0
    limit = block[order[first + size - 1]] + is_clean  # sees clean blocks below this
    sources = torch.stack((prefix[leader], document[leader]), 1)
    starts = torch.searchsorted(key, sort_key(sources * 2, torch.zeros_like(sources)))
    ends = torch.searchsorted(key, sort_key(sources * 2, limit[:, None]))
    counts = torch.cat((ends - starts, (size * ~is_clean)[:, None]), 1)
    return _Tiles(order, first, size, torch.cat((starts, first[:, None]), 1), counts)


def _run_starts(values: Tensor) -> Tensor:
    """Return where the run of equal values that holds each element starts."""
    row = torch.arange(len(values), device=values.device)
    is_first = F.pad(values[1:] != values[:-1], (1, 0), value=True)
    return row.where(is_first, 0).cummax(0).values


def _group_sizes(size: Tensor, num_keys: Tensor) -> list[Tensor]:
    """Group rows so that padding to the largest costs little: queries within a factor of two, keys of an eighth."""
    widths = torch.exp2(size.double().log2().ceil()).long()
    octave = torch.exp2(num_keys.double().log2().floor() - 3).clamp(min=KEY_TILE)
    lengths = (num_keys / octave).ceil() * octave
    kind = widths * (int(lengths.max()) + 1) + lengths.long()
    return [(kind == value).nonzero()[:, 0] for value in kind.unique().tolist()]
