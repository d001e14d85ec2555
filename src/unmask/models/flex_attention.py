"""FlexAttention: the attention of a pack on a GPU, without a mask of tokens by tokens.

The mask is `sees`, as everywhere, asked for one pair at a time inside the kernel. What the kernel must
know beforehand is which tiles of `TILE` queries by `TILE` keys to visit, and which of those need not
ask. Both follow from the least and greatest document, block, copy and prefix of each tile, so planning
a pack of `T` tokens takes `(T / TILE)^2` comparisons and never waits for the device. Tiles are read off
clean and noisy tokens apart: a tile in which one document's copies end and the next one's text begins
would otherwise seem to reach everything between.

A range is a promise in one direction: a tile may be visited in vain, and is then masked in full; none
that holds a visible pair is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from unmask.models.attention import round_up, sees

TILE = 128

LEAST_WIDTH = 16  # of a head, for the kernel's matrix products


# One compilation per shape; a pack on a GPU is filled to its budget, so there are few. `fullgraph`,
# because the fallback would hold the scores of all pairs.
@partial(torch.compile, dynamic=False, fullgraph=True)
def attend_flex(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask) -> Tensor:
    """Softmax attention of `q (T, H, E)` over `k, v (T, Hk, E)` in one kernel."""
    width = q.shape[-1]
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))  # (1, H, T, E)
    if width < LEAST_WIDTH:
        q, k, v = (F.pad(x, (0, LEAST_WIDTH - width)) for x in (q, k, v))
    is_grouped = q.shape[1] != k.shape[1]
    mixed = flex_attention(q, k, v, block_mask=mask, scale=width**-0.5, enable_gqa=is_grouped)
    return mixed[0, ..., :width].transpose(0, 1)


@dataclass(frozen=True, slots=True)
class FlexAttend:
    """Attention of a pack in one kernel.

    Attributes:
        mask: who sees whom, and the tiles in which anybody does.
    """

    mask: BlockMask

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within the pack; `layer` is not needed, because nothing is cached."""
        return attend_flex(q, k, v, self.mask)


def plan_flex(structure: Tensor) -> FlexAttend:
    """Plan attention for a pack.

    Args:
        structure: `(4, T)`, in any order; the nearer what belongs together, the fewer tiles.
    """
    some, every = find_tiles(structure)
    length = structure.shape[1]
    return FlexAttend(
        BlockMask.from_kv_blocks(
            *_listed(some & ~every),
            *_listed(every),
            BLOCK_SIZE=TILE,
            mask_mod=_mask_of(structure),
            seq_lengths=(length, length),
        )
    )


def find_tiles(structure: Tensor) -> tuple[Tensor, Tensor]:
    """Say in which tiles a query may see a key, and in which each of them sees each.

    Args:
        structure: `(4, T)`.

    Returns:
        Two `(tiles, tiles)` bool tables, queries by keys; the second is a subset of the first.
    """
    tiles = _in_tiles(structure)  # (4, tiles, TILE)
    is_noisy = tiles[2] > 0
    is_kind = torch.stack((~is_noisy, is_noisy))[:, None]
    nothing = torch.iinfo(tiles.dtype)
    low = tiles.where(is_kind, nothing.max).amin(-1)  # (2, 4, tiles), clean and noisy
    high = tiles.where(is_kind, nothing.min).amax(-1)
    some = torch.stack([_may_see(low, high, kind) for kind in (0, 1)]).any(0)
    return some, _all_see(low.amin(0), high.amax(0))


def _may_see(low: Tensor, high: Tensor, kind: int) -> Tensor:
    """Say which tiles hold a key that a query of a kind may see, by the ranges `(2, 4, tiles)` of both kinds."""

    def overlap(query: Tensor, query_end: Tensor, key: Tensor, key_end: Tensor) -> Tensor:
        return (query[..., None] <= key_end[..., None, :]) & (
            query_end[..., None] >= key[..., None, :]
        )

    # The query's document (0) and its prefix (3), against the documents of clean keys.
    texts = overlap(low[kind, ::3], high[kind, ::3], low[0, :1], high[0, :1]).any(0)
    is_before = low[0, 1] < high[kind, 1, :, None]
    is_own = overlap(low[kind, :3], high[kind, :3], low[kind, :3], high[kind, :3]).all(0)
    return (texts & is_before) | is_own


def _all_see(low: Tensor, high: Tensor) -> Tensor:
    """Say in which tiles every query sees every key, by the ranges `(4, tiles)` of all tokens."""
    is_one = low == high
    is_same = is_one[:3, :, None] & (low[:3, :, None] == low[:3, None, :]) & is_one[:3, None, :]
    is_prefix = is_one[3, :, None] & (low[3, :, None] == low[0]) & is_one[0]
    is_before = (high[2] == 0) & (high[1] < low[1, :, None])
    return ((is_same[0] | is_prefix) & is_before) | is_same.all(0)


def _in_tiles(structure: Tensor) -> Tensor:
    """Cut `(4, T)` into `(4, tiles, TILE)`; who shares no prefix shares its own document, which says the same."""
    document, block, copy, prefix = structure
    whole = torch.stack((document, block, copy, prefix.where(prefix >= 0, document)))
    length = structure.shape[1]
    # What fills the last tile is of another document, so that nobody sees all of it.
    other = whole[:, -1:].clone()
    other[::3] += 1
    return torch.cat((whole, other.expand(-1, round_up(length, TILE) - length)), 1).unflatten(
        1, (-1, TILE)
    )


def _listed(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each row of tiles, how many are set, and which, those first: `(1, 1, n)` and `(1, 1, n, n)`."""
    order = tiles.int().argsort(dim=-1, descending=True, stable=True)
    return tiles.sum(-1, dtype=torch.int32)[None, None], order.int()[None, None]


def _mask_of(structure: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Return `sees` as the kernel asks for it: of one query and one key of a batch and a head."""
    document, block, copy, prefix = structure.int()

    def mask(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return sees(
            (document[query], block[query], copy[query], prefix[query]),
            (document[key], block[key], copy[key], prefix[key]),
        )

    return mask
