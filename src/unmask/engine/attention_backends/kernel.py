"""The Triton kernel (`kernels/paged_attention.py`), on CUDA: keys are read in place, nothing is gathered."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from unmask.engine.attention import Backend, Planner, Shapes, written_places
from unmask.engine.batch_plan import Rows
from unmask.engine.kernels.paged_attention import (
    MOST_FOLDED,
    Tiles,
    attend_tiles,
    choose_rows_per_tile,
    has_kernel,
    most_tiles,
    plan_tiles,
    write_rows,
)
from unmask.models.attention import KEY_CHUNK
from unmask.models.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class KernelAttend:
    """Attention of one tick by the Triton kernel.

    Attributes:
        keys: `(layers, M, Hk, W, E)`, written in place.
        values: the same.
        written: `(T,)` index each row writes to, into the pages flattened to `(M * W,)`.
        table: `(n, pages)` page table.
        limit: `(T,)` each row sees the positions below it.
        tiles: groups of rows that are computed together.
    """

    keys: Tensor
    values: Tensor
    written: Tensor
    table: Tensor
    limit: Tensor
    tiles: Tiles

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write `k, v (T, Hk, E)` to the pages of `layer`, then let `q (T, H, E)` attend."""
        keys, values = self.keys[layer], self.values[layer]
        write_rows(keys, values, k, v, self.written)
        return attend_tiles(q, keys, values, self.table, self.limit, self.tiles)


def plan_kernel(
    rows: Rows, table: Tensor, keys: Tensor, values: Tensor, rows_per_tile: int
) -> KernelAttend:
    """Return a tick's attention by the kernel; nothing waits for the device."""
    num_tiles = most_tiles(len(rows.position), len(rows.counts), rows_per_tile)
    tiles = plan_tiles(rows.starts, rows.counts, rows_per_tile, num_tiles)
    written = written_places(rows, table, keys.shape[3])
    return KernelAttend(keys, values, written, table, rows.limit, tiles)


def rows_per_tile_of(spec: ModelSpec) -> int:
    """Return the rows of a tile: what a sequence usually feeds, or what a tile can hold.

    Bits depend on it, so it is fixed for the engine's life, whatever a tick feeds.
    """
    return choose_rows_per_tile(
        2 * (spec.block_size or KEY_CHUNK), spec.num_heads // spec.num_kv_heads
    )


def _build(spec: ModelSpec) -> Planner:
    return partial(plan_kernel, rows_per_tile=rows_per_tile_of(spec))


def _obstacle(shapes: Shapes) -> str:
    if not has_kernel(shapes.device):
        return f"a CUDA device and triton, not {shapes.device}"
    if shapes.spec.num_heads // shapes.spec.num_kv_heads > MOST_FOLDED:
        return f"at most {MOST_FOLDED} query heads per KV head"
    return "" if shapes.dtype.itemsize <= 4 else f"at most 32 bits per number, not {shapes.dtype}"


BACKEND = Backend(_obstacle, _build)
