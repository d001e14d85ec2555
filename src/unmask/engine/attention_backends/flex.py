"""FlexAttention over the pages: a block table is a `BlockMask`'s list of key blocks.

The pages of a layer, `(1, Hk, M * W, E)`, are the keys of all tiles of rows: one tile is one element of the
batch, and its key blocks are the numbers of its sequence's pages. Pages below the least limit of a tile are
full blocks. The next ones are masked by position: a page's column in the sequence's row of the page table
gives the position of its first key. Shapes follow from sizes that the host has, so that a CUDA graph
holds; each size of a pass is compiled once, which takes seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from packaging.version import Version
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from unmask.engine.attention import Backend, Planner, Shapes, write_pages, written_places
from unmask.engine.attention_backends.kernel import rows_per_tile_of
from unmask.engine.batch_plan import Rows
from unmask.engine.kernels.paged_attention import Tiles, most_tiles, plan_tiles
from unmask.engine.pages import SCRAP
from unmask.models.flex_attention import LEAST_WIDTH
from unmask.models.spec import ModelSpec

QUERY_BLOCK = 128  # rows of a query block in the mask; a tile has fewer
# Sizes of passes that are compiled; beyond it torch refuses, because `fullgraph` has no other way.
MOST_SIZES = 128


@dataclass(frozen=True, slots=True)
class FlexAttend:
    """Attention of one tick by FlexAttention.

    Attributes:
        keys: `(layers, M, Hk, W, E)`, in memory `(layers, Hk, M, W, E)`, written in place.
        values: the same.
        written: `(T,)` index each row writes to, into the pages flattened to `(M * W,)`.
        queries: `(tiles, R)` the packed rows of each tile; short tiles repeat their last row.
        place: `(T,)` index of each row in the tiles flattened to `(tiles * R,)`; 0 for padding.
        mask: the pages of each tile.
        attend: `flex_attention`, compiled or not.
    """

    keys: Tensor
    values: Tensor
    written: Tensor
    queries: Tensor
    place: Tensor
    mask: BlockMask
    attend: Callable[..., Any]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write `k, v (T, Hk, E)` to the pages of `layer`, then let `q (T, H, E)` attend."""
        keys, values = self.keys[layer], self.values[layer]
        write_pages(keys, k, self.written)
        write_pages(values, v, self.written)
        mixed = self.attend(
            q[self.queries].transpose(1, 2),  # (tiles, H, R, E)
            keys.transpose(0, 1).flatten(1, 2)[None],  # (1, Hk, M * W, E), a view
            values.transpose(0, 1).flatten(1, 2)[None],
            block_mask=self.mask,
            scale=q.shape[-1] ** -0.5,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        return mixed.transpose(1, 2).flatten(0, 1).index_select(0, self.place)


def plan_flex_pages(
    rows: Rows,
    table: Tensor,
    keys: Tensor,
    values: Tensor,
    rows_per_tile: int,
    attend: Callable[..., Any],
) -> FlexAttend:
    """Return a tick's attention by FlexAttention; nothing waits for the device."""
    num_rows = len(rows.position)
    num_tiles = most_tiles(num_rows, len(rows.counts), rows_per_tile)
    tiles = plan_tiles(rows.starts, rows.counts, rows_per_tile, num_tiles)
    column = torch.arange(rows_per_tile, device=table.device)
    is_own = column < tiles.count[:, None]  # (tiles, R)
    queries = tiles.first[:, None] + torch.minimum(column, tiles.count[:, None] - 1).clamp(min=0)
    # The columns past a tile's rows write to a place of their own, which is cut off.
    place = torch.zeros(num_rows + 1, dtype=torch.int64, device=table.device)
    number = torch.arange(queries.numel(), device=table.device)
    place.index_copy_(0, queries.where(is_own, num_rows).flatten().long(), number)
    limit = rows.limit[queries].where(is_own, 0)
    mask = mask_of(tiles, limit, table, keys.shape[1], keys.shape[3])
    written = written_places(rows, table, keys.shape[3])
    return FlexAttend(keys, values, written, queries, place[:-1], mask, attend)


def mask_of(
    tiles: Tiles, limit: Tensor, table: Tensor, num_pages: int, page_size: int
) -> BlockMask:
    """Return the mask of tiles over all pages.

    Args:
        tiles: groups of rows that are computed together.
        limit: `(tiles, R)` of their rows; 0 past a tile's rows.
        table: `(n, pages)` page table.
        num_pages: `M`.
        page_size: `W`.
    """
    most = limit.amax(1)
    least = limit.where(limit > 0, most[:, None]).amin(1)
    num_full, end = least // page_size, (most + page_size - 1) // page_size
    column = torch.arange(table.shape[1], device=table.device)
    pages = table[tiles.sequence]  # (tiles, pages)
    partly = pages.gather(1, (num_full[:, None] + column).clamp(max=table.shape[1] - 1))
    if table.device.type == "cpu":  # the kernel there wants room for every page
        room = (0, max(num_pages - table.shape[1], 0))
        pages, partly = F.pad(pages, room), F.pad(partly, room)
    # (n, M): column of each page in the table's rows; past the table where it is in none.
    column_of = torch.full((len(table), num_pages), table.shape[1], device=table.device)
    column_of.scatter_(1, table, column.expand(table.shape))
    column_of[:, SCRAP] = table.shape[1]
    sequence = tiles.sequence

    def sees_key(tile: Tensor, head: Tensor, row: Tensor, key: Tensor) -> Tensor:
        first = column_of[sequence[tile], key // page_size] * page_size
        return first + key % page_size < limit[tile, row]

    def listed(blocks: Tensor) -> Tensor:
        return blocks.int()[:, None, None]  # one head, one block of queries

    return BlockMask.from_kv_blocks(
        *(listed(end - num_full), listed(partly), listed(num_full), listed(pages)),
        BLOCK_SIZE=(QUERY_BLOCK, page_size),
        mask_mod=sees_key,
        seq_lengths=(limit.shape[1], num_pages * page_size),
        compute_q_blocks=False,
    )


def _build(spec: ModelSpec) -> Planner:
    config = torch._dynamo.config  # pyright: ignore[reportPrivateUsage]
    config.recompile_limit = max(config.recompile_limit, MOST_SIZES)
    attend = torch.compile(flex_attention, dynamic=False, fullgraph=True)
    rows = min(rows_per_tile_of(spec), QUERY_BLOCK)
    return partial(plan_flex_pages, rows_per_tile=rows, attend=attend)


def _obstacle(shapes: Shapes) -> str:
    if shapes.device.type not in ("cpu", "cuda"):
        return f"a CPU or CUDA device, not {shapes.device}"
    width = shapes.spec.head_width
    if shapes.device.type == "cuda" and width < LEAST_WIDTH:
        return f"a head width of at least {LEAST_WIDTH}, not {width}"
    # In torch 2.11 the CPU kernel writes past its memory where several threads run it.
    if shapes.device.type == "cpu" and Version(torch.__version__) < Version("2.13"):
        return f"torch 2.13 or newer on a CPU, not {torch.__version__}"
    return "" if shapes.dtype.itemsize <= 4 else f"at most 32 bits per number, not {shapes.dtype}"


BACKEND = Backend(_obstacle, _build, heads_first=True, is_automatic=False)
