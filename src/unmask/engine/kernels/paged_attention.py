"""Attention of a tick's rows over paged keys and values: planned as tiles, computed by one Triton kernel.

Every query row belongs to a sequence and has a `limit`: it sees the keys at positions below it. So
prefill, denoising, commit, fused commit and windows are one kernel with other limits, and keys are
never gathered. Position p of sequence s lies in page `table[s, p // W]` at `p % W`; a page holds heads
before positions `(Hk, W, E)`, so that one head of one page is a contiguous read.

Design:

- Work is split into *tiles*: rows of one sequence, times the query heads of one KV head, folded into one
  matrix of a fixed number of rows. How many tiles there are is fixed by the number of rows and
  sequences, so a plan never waits for the device and a CUDA graph holds; tiles too many are empty and
  return at once.
- Long contexts are split into chunks of `CHUNK` keys. The order of a row's sums depends on the row alone
  (`paged_programs` argues why), so chunks run side by side where programs are few, and one after the
  other where they are many and the fp32 mixtures in between would be traffic. The bits are the same.
- Shapes are constants of head width and number format (`shape_of`). Nothing is tuned at run time: a
  tuner that chose otherwise tomorrow would change bits.

Bits are fixed for one `rows_per_tile`: choose it once per engine, not per tick.

`attend_plain` is the same in a few lines of PyTorch, on any device. Triton comes
with a CUDA build of torch; it is imported when a kernel is first run, never with this module.
"""

from dataclasses import dataclass
from math import e, log2
from typing import Any

import torch
from torch import Tensor

from unmask.models.placement import has_triton

CHUNK = 512
# Rows of a matrix product: a tensor core takes no fewer than 16; 128 is where registers end.
FEWEST_FOLDED, MOST_FOLDED = 16, 128
# Programs that fill an H100 or H200: 132 multiprocessors, each with room for two to four of them.
ENOUGH_PROGRAMS = 4 * 132


@dataclass(frozen=True, slots=True)
class Tiles:
    """Groups of rows that are computed together.

    Attributes:
        sequence: `(num_tiles,)` int32, row of the page table.
        first: `(num_tiles,)` int32, first query row.
        count: `(num_tiles,)` int32, query rows; 0 for a tile that is empty.
        rows_per_tile: the largest count.
    """

    sequence: Tensor
    first: Tensor
    count: Tensor
    rows_per_tile: int


def has_kernel(device: torch.device) -> bool:
    """Return whether the kernels run on `device`; elsewhere the plain twins do."""
    return has_triton(device)


def choose_rows_per_tile(num_rows: int, ratio: int) -> int:
    """Return the number of query rows of a tile.

    A tile with fewer rows than sequences usually feed reads their keys twice, one with more multiplies
    padding.

    Args:
        num_rows: rows that a sequence usually feeds: two blocks, with fused commit.
        ratio: query heads per KV head, at most 128.
    """
    folded = _power_of_two(max(num_rows * ratio, FEWEST_FOLDED))
    return min(folded, MOST_FOLDED) // ratio


def most_tiles(num_rows: int, num_sequences: int, rows_per_tile: int) -> int:
    """Return a number of tiles that is enough however `num_rows` are spread over the sequences."""
    fed = min(num_rows, num_sequences)
    return (num_rows + fed * (rows_per_tile - 1)) // rows_per_tile


def plan_tiles(starts: Tensor, counts: Tensor, rows_per_tile: int, num_tiles: int) -> Tiles:
    """Cut the rows of every sequence into tiles, without waiting for the device.

    Args:
        starts: `(n,)` first row of each sequence.
        counts: `(n,)` its rows, which are contiguous; may be 0.
        rows_per_tile: from `choose_rows_per_tile`.
        num_tiles: at least as many as there are; `most_tiles` always is. Rows of tiles that do not
            fit would be left out, which could not be detected without waiting for the device.
    """
    per_sequence = (counts + rows_per_tile - 1) // rows_per_tile
    ends = per_sequence.cumsum(0)
    tile = torch.arange(num_tiles, device=counts.device)
    sequence = torch.searchsorted(ends, tile, right=True).clamp(max=len(counts) - 1)
    done = (tile - (ends - per_sequence)[sequence]) * rows_per_tile
    left = (counts[sequence] - done).clamp(min=0, max=rows_per_tile)
    first = (starts[sequence] + done).where(left > 0, 0)
    return Tiles(sequence.int(), first.int(), left.int(), rows_per_tile)


def shape_of(width: int, dtype: torch.dtype, page: int) -> tuple[int, int, int]:
    """Return the padded head width, the keys of one matrix product, and the stages of its pipeline.

    Fixed for a head width, number format and page size. The keys divide the page.

    64 keys are one page, so a tile of keys is one page number and one contiguous read. It is read by
    way of its page number, which takes two of the stages: of five, two remain for tiles of K and V
    under way. At 256 bytes a row (128 wide in bf16) these are 64 KiB, and two programs share a
    multiprocessor's 227 KiB: 128 KiB in flight, where covering the latency of 4.8 TB/s takes about 40.
    Wider rows, and fp32, which is there to be compared with, take half the keys and one tile under way.
    """
    padded = max(_power_of_two(width), 16)
    is_narrow = padded * dtype.itemsize <= 256 and dtype.itemsize == 2
    return padded, min(page, 64 if is_narrow else 32), 5 if is_narrow else 3


def folded_rows(rows_per_tile: int, ratio: int) -> int:
    """Return the rows of a tile's matrix: query rows times query heads per KV head, padded."""
    folded = max(_power_of_two(rows_per_tile * ratio), FEWEST_FOLDED)
    assert folded <= MOST_FOLDED, f"{rows_per_tile} rows x {ratio} heads"
    return folded


def warps_of(folded: int, dtype: torch.dtype) -> int:
    """Return the warps of a tile of `folded` rows.

    Exact fp32 products run outside tensor cores and hold their operands in registers: with fewer warps the
    compiler gives up and keeps kilobytes per thread in memory.
    """
    return max(4, folded // (8 if dtype == torch.float32 else 16))


def attend_tiles(  # noqa: PLR0913 - one argument per tensor
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    table: Tensor,
    limit: Tensor,
    tiles: Tiles,
    *,
    is_split: bool | None = None,
) -> Tensor:
    """Let every row attend to its sequence's keys below its limit, in one or two kernels.

    Args:
        q: `(T, H, E)`, normed and rotated; float32, bfloat16 or float16.
        keys: `(M, Hk, W, E)`, one layer's pages; `H` a multiple of `Hk`, `W` a power of two.
        values: the same.
        table: `(n, P)` int32 or int64, each sequence's pages in order.
        limit: `(T,)` int32 or int64; at 0 a row becomes zeros. Rows in no tile must have limit 0.
        tiles: from `plan_tiles`.
        is_split: whether chunks run side by side; by default, where programs are few. Changes no bit.

    Returns:
        `(T, H, E)` in the type of `q`.
    """
    _check(q, keys, values, table, limit)
    num_rows, num_heads, width = q.shape
    _, kv_heads, page, _ = keys.shape
    ratio = num_heads // kv_heads
    padded_width, num_keys, num_stages = shape_of(width, q.dtype, page)
    folded = folded_rows(tiles.rows_per_tile, ratio)
    num_tiles, longest = len(tiles.count), table.shape[1] * page
    num_chunks = -(-longest // CHUNK)
    if is_split is None:
        is_split = num_tiles * kv_heads < ENOUGH_PROGRAMS
    is_split = is_split and num_chunks > 1
    # Only `combine_chunks` writes rows that are in no tile.
    out = (q.new_empty if is_split else q.new_zeros)(q.shape)
    # Peaks and totals `(chunks, T, H)` and mixtures `(chunks, T, H, E)` of each chunk.
    mixtures = q.new_empty(num_chunks if is_split else 0, *q.shape, dtype=torch.float32)
    partial = (*mixtures.new_empty(2, *mixtures.shape[:-1]), mixtures)
    programs = _programs()
    programs.attend_tile[num_tiles, kv_heads, num_chunks if is_split else 1](
        *(q, keys, values, table, limit, tiles.sequence, tiles.first, tiles.count, out, *partial),
        *(*q.stride()[:2], *keys.stride()[:2], table.shape[1], num_rows),
        width**-0.5 * log2(e),
        RATIO=ratio,
        WIDTH=width,
        PADDED_WIDTH=padded_width,
        PAGE=page,
        KEYS=num_keys,
        CHUNK=CHUNK,
        FOLD=folded,
        IS_SPLIT=is_split,
        WIDENS=programs.widens(q.dtype),
        num_warps=warps_of(folded, q.dtype),
        num_stages=num_stages,
    )
    if is_split:
        programs.combine_chunks[num_rows, kv_heads](
            *(limit, out, *partial, num_rows, longest),
            HEADS=ratio,
            PADDED_HEADS=_power_of_two(ratio),
            WIDTH=width,
            PADDED_WIDTH=padded_width,
            CHUNK=CHUNK,
            num_warps=4,
        )
    return out


def write_rows(keys: Tensor, values: Tensor, k: Tensor, v: Tensor, written: Tensor) -> None:
    """Write a tick's keys and values to their pages, both in one kernel.

    Args:
        keys: `(M, Hk, W, E)`, one layer's pages, written in place.
        values: the same.
        k: `(T, Hk, E)`; its last dimension is contiguous, as that of `v`.
        v: the same.
        written: `(T,)` each row's flat place, page times `W` plus offset. Padding rows go to the scrap
            page 0, whose places may repeat; no other place may.
    """
    num_rows, kv_heads, width = k.shape
    _check_pages(keys, values)
    assert k.stride(-1) == v.stride(-1) == 1
    _programs().write_row[num_rows,](
        *(keys, values, k, v, written, *keys.stride()[:2], *k.stride()[:2], *v.stride()[:2]),
        HEADS=kv_heads,
        PADDED_HEADS=_power_of_two(kv_heads),
        WIDTH=width,
        PADDED_WIDTH=_power_of_two(width),
        PAGE=keys.shape[2],
        num_warps=4,
    )


def attend_plain(
    q: Tensor, keys: Tensor, values: Tensor, table: Tensor, sequence: Tensor, limit: Tensor
) -> Tensor:
    """Do as `attend_tiles` does, sequence by sequence over gathered keys, in fp32 (fp64 for fp64).

    `sequence (T,)` is each row's row of the table; the other arguments are those of `attend_tiles`.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    ratio = q.shape[1] // keys.shape[1]
    out = torch.zeros_like(q)
    for member in sequence.unique().tolist():
        rows = (sequence == member).nonzero()[:, 0]
        longest = int(limit[rows].max())
        k, v = (
            pages[table[member]].transpose(0, 1).flatten(1, 2)[:, :longest].to(wide)
            for pages in (keys, values)
        )  # (Hk, L, E)
        k, v = k.repeat_interleave(ratio, 0), v.repeat_interleave(ratio, 0)
        scores = torch.einsum("the,hle->htl", q[rows].to(wide), k) * q.shape[-1] ** -0.5
        is_seen = torch.arange(longest, device=q.device) < limit[rows, None]
        weights = scores.where(is_seen, -torch.inf).softmax(-1).where(is_seen, 0)
        out[rows] = torch.einsum("htl,hle->the", weights, v).to(q.dtype)
    return out


def _programs() -> Any:
    """Import the kernels, and triton with them."""
    from unmask.engine.kernels import paged_programs

    return paged_programs


def _check(q: Tensor, keys: Tensor, values: Tensor, table: Tensor, limit: Tensor) -> None:
    _check_pages(keys, values)
    assert q.dtype == keys.dtype == values.dtype, (q.dtype, keys.dtype, values.dtype)
    assert q.dtype in {torch.float32, torch.bfloat16, torch.float16}, q.dtype
    assert q.shape[1] % keys.shape[1] == 0 and q.shape[-1] == keys.shape[-1]
    assert q.stride(-1) == 1 and table.is_contiguous() and len(limit) == len(q)


def _check_pages(keys: Tensor, values: Tensor) -> None:
    page = keys.shape[2]
    assert keys.shape == values.shape and keys.stride() == values.stride()
    assert keys.stride()[2:] == (keys.shape[3], 1), "one head of a page is one contiguous piece"
    assert page >= 16 and page & (page - 1) == 0 and CHUNK % page == 0, f"a page of {page}"


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()
