"""Tiled attention for packs: each tile of queries gathers only the keys it may attend to.

A dense mask over a whole document costs the square of its clean copy and all its noisy copies, although
a noisy block attends only to the clean blocks before it and to itself. So a document is cut into tiles of
queries, each with only its own keys, and tiles of similar size run as one batch. The result equals that
of the dense mask: within a tile, `sees` decides.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.models.attention import KEY_TILE, Attend, DenseAttend, round_up, sees

# Queries of a document that share one set of keys: a smaller tile masks fewer keys, a larger one gathers fewer.
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
    """Plan attention for a pack in tiles of queries, each with only the keys it may attend to.

    A tile of the clean copy has the clean blocks up to its last one for keys; a tile of noisy copies
    has the clean blocks before its last one, and itself. So the cost of a document grows with its clean
    copy, not with the square of its noisy ones.

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
        # (B, Lq) packed index of the queries; a short tile repeats its last one.
        row = tiles.order[first[:, None] + torch.minimum(column, size[:, None] - 1)]
        is_own = column < size[:, None]
        flat = start + torch.arange(row.numel(), device=structure.device).view(row.shape)
        place[row[is_own]] = flat[is_own]
        start += row.numel()

        # The keys of a tile are its three ranges of `order`, joined and padded to Lk.
        num_keys = round_up(int(counts.sum(-1).max()), KEY_TILE)
        place_k = torch.arange(num_keys, device=structure.device)  # (Lk,)
        ends = counts.cumsum(-1)  # (B, 3)
        span = (place_k[:, None] >= ends[:, None]).sum(-1)  # (B, Lk) range of a key; 3: padding
        is_key = span < counts.shape[1]
        span = span.clamp(max=counts.shape[1] - 1)
        # Shift from a place among the joined keys to the place in `order`.
        shift = (tiles.starts[members] - (ends - counts)).gather(1, span)
        key = tiles.order[(shift + place_k).where(is_key, 0)]
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
