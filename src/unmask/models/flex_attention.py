"""FlexAttention: the attention of a pack on a GPU, without a mask of tokens by tokens.

The mask is `sees`, as everywhere, evaluated for one pair at a time inside the kernel. The kernel needs two
tables beforehand: the tiles of `TILE` queries by `TILE` keys to visit, and those of them without a masked
pair. Both follow from the least and greatest document, block, copy and prefix of each tile, so planning
a pack of `T` tokens takes `(T / TILE)^2` comparisons and never waits for the device. Clean and noisy
tokens of a tile have ranges of their own: the joint range of a tile in which one document's noisy copies
end and the next one's clean copy begins would cover everything between.

Ranges are conservative: a visited tile may turn out fully masked; no tile with a visible pair is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import config
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from unmask.models.attention import round_up, sees

TILE = 128

LEAST_WIDTH = 16  # of a head, for the kernel's matrix products

# Every token budget, number format and gradient mode is compiled for itself. Torch's limit of 8 is a guard
# against endless compilation; under `fullgraph` the ninth raises.
config.recompile_limit = max(64, config.recompile_limit)


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
        mask: the mask of pairs, and the tiles with visible ones.
    """

    mask: BlockMask

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within the pack; `layer` is unused, because nothing is cached."""
        return attend_flex(q, k, v, self.mask)


def plan_flex(structure: Tensor) -> FlexAttend:
    """Plan attention for a pack.

    Args:
        structure: `(4, T)`, in any order; fewer tiles are visited if related tokens are near each other.
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
    """Return the tiles with visible pairs, and those without masked ones.

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
    """Return the tiles with a key that queries of a kind may attend to, by the ranges `(2, 4, tiles)` of both kinds."""

    def overlap(query: Tensor, query_end: Tensor, key: Tensor, key_end: Tensor) -> Tensor:
        return (query[..., None] <= key_end[..., None, :]) & (
            query_end[..., None] >= key[..., None, :]
        )

    # The query's document (0) and its prefix (3), against the documents of clean keys.
    sources = overlap(low[kind, ::3], high[kind, ::3], low[0, :1], high[0, :1]).any(0)
    is_before = low[0, 1] < high[kind, 1, :, None]
    is_own = overlap(low[kind, :3], high[kind, :3], low[kind, :3], high[kind, :3]).all(0)
    return (sources & is_before) | is_own


def _all_see(low: Tensor, high: Tensor) -> Tensor:
    """Return the tiles in which every query attends to every key, by the ranges `(4, tiles)` of all tokens."""
    is_one = low == high
    is_same = is_one[:3, :, None] & (low[:3, :, None] == low[:3, None, :]) & is_one[:3, None, :]
    is_prefix = is_one[3, :, None] & (low[3, :, None] == low[0]) & is_one[0]
    is_before = (high[2] == 0) & (high[1] < low[1, :, None])
    return ((is_same[0] | is_prefix) & is_before) | is_same.all(0)


def _in_tiles(structure: Tensor) -> Tensor:
    """Return `(4, T)` as `(4, tiles, TILE)`; a token without a prefix gets its own document, which is equivalent."""
    document, block, copy, prefix = structure
    whole = torch.stack((document, block, copy, prefix.where(prefix >= 0, document)))
    length = structure.shape[1]
    # Padding of the last tile belongs to another document, so that no tile with it counts as unmasked.
    other = whole[:, -1:].clone()
    other[::3] += 1
    return torch.cat((whole, other.expand(-1, round_up(length, TILE) - length)), 1).unflatten(
        1, (-1, TILE)
    )


def _listed(tiles: Tensor) -> tuple[Tensor, Tensor]:
    """Return of each row of tiles the number of set ones, `(1, 1, n)`, and their indices first, `(1, 1, n, n)`."""
    order = tiles.int().argsort(dim=-1, descending=True, stable=True)
    return tiles.sum(-1, dtype=torch.int32)[None, None], order.int()[None, None]


def _mask_of(structure: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Return `sees` in the kernel's form: of one query and one key of a batch and a head."""
    document, block, copy, prefix = structure.int()

    def mask(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return sees(
            (document[query], block[query], copy[query], prefix[query]),
            (document[key], block[key], copy[key], prefix[key]),
        )

    return mask
