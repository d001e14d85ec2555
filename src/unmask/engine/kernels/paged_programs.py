"""The Triton programs behind `paged_attention`: attend a tile, combine its chunks, write rows to pages.

A row's bits are a function of that row alone: its query, its limit, the keys below the limit. This
holds whatever shares its tile or its batch, because

1. every tile is computed in one shape. A row's place in it picks the lanes that compute it, not the
   order of its sums;
2. keys are summed in tiles of `KEYS`, tiles in chunks of `CHUNK` keys that each start from nothing,
   chunks from the first to the last. All three borders lie on absolute positions;
3. when a tile goes on after the limit of one of its rows, that row's scores are -inf: its peak stays,
   so it is rescaled by `exp2(0) = 1`, and every weight added is `exp2(-inf) = 0`. Adding exact zeros
   changes nothing, in a tensor core neither: it shifts addends to the largest exponent, which is the
   accumulator's own;
4. chunks in one program after each other, or in programs of their own and combined afterwards, run
   the same `merge` on the same numbers. It is written with explicit `fma`, so that the compiler cannot
   contract it differently in the two programs. Merging into nothing multiplies by 1 and adds 0, so
   a sequence of one chunk has the bits of no merge at all.

Values at positions below the largest limit of a tile must be finite. Those past it (NaN in a page that
is not written yet) are masked before they are multiplied.

Importing this module imports triton. It also works under `TRITON_INTERPRET=1`, which has to be
set before triton is imported for the first time.
"""

# triton is no dependency on CPU, and its language has no types that a checker could follow.
# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
# ruff: noqa: PLR0913 - a program takes its tensors one by one; `fmt: skip` keeps them from a line each

import torch
import triton
import triton.language as tl

NOTHING = tl.constexpr(float("-inf"))


def widens(dtype: torch.dtype) -> bool:
    """Return whether products need fp32 operands: the interpreter would multiply the codes of bfloat16."""
    return bool(triton.knobs.runtime.interpret) and dtype == torch.bfloat16


@triton.jit
def rescale(peak):
    """Return the offset of scores before `exp2`: the peak, or 0 where no key was seen (-inf - -inf is NaN)."""
    return tl.where(peak == NOTHING, 0.0, peak)


@triton.jit
def merge(peak, total, mixed, next_peak, next_total, next_mixed):
    """Add one chunk to the chunks before it: peaks and totals `(rows,)`, unnormalised mixtures `(rows, E)`."""
    high = tl.maximum(peak, next_peak)
    by = rescale(high)
    kept, added = tl.exp2(peak - by), tl.exp2(next_peak - by)
    total = tl.fma(next_total, added, total * kept)
    added = tl.broadcast_to(added[:, None], mixed.shape)
    mixed = tl.fma(next_mixed, added, mixed * kept[:, None])
    return high, total, mixed


@triton.jit
def attend_chunk(
    q, limits, keys, values, pages, page_stride, scale, first, end,
    WIDTH: tl.constexpr, PAGE: tl.constexpr, KEYS: tl.constexpr, WIDENS: tl.constexpr,
):  # fmt: skip
    """Attend with a tile of rows `q (FOLD, E)` to the keys from `first` to `end`, starting from nothing."""
    peak = tl.full((q.shape[0],), NOTHING, tl.float32)
    total = tl.zeros((q.shape[0],), tl.float32)
    mixed = tl.zeros(q.shape, tl.float32)
    key = tl.arange(0, KEYS)
    column = tl.arange(0, q.shape[1])
    is_column = (column < WIDTH)[None, :]
    place = key[:, None] * WIDTH + column[None, :]
    for start in range(first, end, KEYS):
        # A tile of keys never crosses a page, so that it is one contiguous read.
        page = tl.load(pages + start // PAGE).to(tl.int64)
        tile = page * page_stride + (start % PAGE) * WIDTH + place
        k = tl.load(keys + tile, mask=is_column, other=0.0)
        v = tl.load(values + tile, mask=is_column & (start + key < end)[:, None], other=0.0)
        if WIDENS:
            k, v = k.to(tl.float32), v.to(tl.float32)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        scores = tl.where((start + key)[None, :] < limits[:, None], scores, NOTHING)
        high = tl.maximum(peak, tl.max(scores, 1))
        by = rescale(high)
        weights = tl.exp2(scores - by[:, None])
        kept = tl.exp2(peak - by)
        total = tl.fma(total, kept, tl.sum(weights, 1))
        mixed = tl.dot(weights.to(v.dtype), v, mixed * kept[:, None], input_precision="ieee")
        peak = high
    return peak, total, mixed


@triton.jit
def attend_tile(
    q, keys, values, table, limit, tile_sequence, tile_first, tile_count, out, peaks, totals,
    mixtures, q_row_stride, q_head_stride, page_stride, head_stride, table_width, num_rows, scale,
    RATIO: tl.constexpr, WIDTH: tl.constexpr, PADDED_WIDTH: tl.constexpr, PAGE: tl.constexpr,
    KEYS: tl.constexpr, CHUNK: tl.constexpr, FOLD: tl.constexpr, IS_SPLIT: tl.constexpr,
    WIDENS: tl.constexpr,
):  # fmt: skip
    """Attend with one tile of query rows and the query heads of one KV head; grid (tiles, Hk, chunks or 1).

    Folded row f of the tile is query row `first + f // RATIO` under query head `f % RATIO` of the group.
    With `IS_SPLIT` the program computes chunk `program_id(2)` and leaves peak, total and mixture for
    `combine_chunks`; without, it walks all chunks and writes `out`.
    """
    tile = tl.program_id(0)
    count = tl.load(tile_count + tile)
    if count == 0:
        return
    kv_head = tl.program_id(1)
    folded = tl.arange(0, FOLD)
    is_row = folded < count * RATIO
    row = tl.load(tile_first + tile) + folded // RATIO
    head = kv_head * RATIO + folded % RATIO
    # A limit past the table would read page numbers outside it.
    limits = tl.minimum(tl.load(limit + row, mask=is_row, other=0), table_width * PAGE).to(tl.int32)
    end = tl.max(limits, 0)
    if IS_SPLIT:
        chunk = tl.program_id(2)
        last = chunk + 1
        if chunk * CHUNK >= end:
            return
    else:
        chunk = 0
        last = tl.cdiv(end, CHUNK)

    column = tl.arange(0, PADDED_WIDTH)
    is_number = is_row[:, None] & (column < WIDTH)[None, :]
    query = row[:, None] * q_row_stride + head[:, None] * q_head_stride + column[None, :]
    rows = tl.load(q + query, mask=is_number, other=0.0)
    if WIDENS:
        rows = rows.to(tl.float32)
    pages = table + tl.load(tile_sequence + tile) * table_width
    shift = kv_head * head_stride

    peak = tl.full((FOLD,), NOTHING, tl.float32)
    total = tl.zeros((FOLD,), tl.float32)
    mixed = tl.zeros((FOLD, PADDED_WIDTH), tl.float32)
    for number in range(chunk, last):
        next_peak, next_total, next_mixed = attend_chunk(
            rows, limits, keys + shift, values + shift, pages, page_stride, scale, number * CHUNK,
            tl.minimum(end, (number + 1) * CHUNK), WIDTH, PAGE, KEYS, WIDENS,
        )  # fmt: skip
        peak, total, mixed = merge(peak, total, mixed, next_peak, next_total, next_mixed)

    num_heads = tl.num_programs(1) * RATIO
    place = row * num_heads + head
    if IS_SPLIT:
        place = chunk.to(tl.int64) * num_rows * num_heads + place
        tl.store(peaks + place, peak, mask=is_row)
        tl.store(totals + place, total, mask=is_row)
        tl.store(mixtures + place[:, None] * WIDTH + column[None, :], mixed, mask=is_number)
    else:
        mixed = mixed / tl.where(total == 0.0, 1.0, total)[:, None]
        number = place[:, None] * WIDTH + column[None, :]
        tl.store(out + number, mixed.to(out.dtype.element_ty), mask=is_number)


@triton.jit
def combine_chunks(
    limit, out, peaks, totals, mixtures, num_rows, longest,
    HEADS: tl.constexpr, PADDED_HEADS: tl.constexpr, WIDTH: tl.constexpr,
    PADDED_WIDTH: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Merge the chunks of one row and some of its heads, first to last; grid (T, H / HEADS).

    A row reads only the chunks below its own limit: the others may be unwritten memory.
    """
    row = tl.program_id(0)
    group = tl.arange(0, PADDED_HEADS)
    column = tl.arange(0, PADDED_WIDTH)
    is_head = group < HEADS
    is_number = is_head[:, None] & (column < WIDTH)[None, :]
    num_heads = tl.num_programs(1) * HEADS
    here = row * num_heads + tl.program_id(1) * HEADS + group
    end = tl.minimum(tl.load(limit + row), longest).to(tl.int32)

    peak = tl.full((PADDED_HEADS,), NOTHING, tl.float32)
    total = tl.zeros((PADDED_HEADS,), tl.float32)
    mixed = tl.zeros((PADDED_HEADS, PADDED_WIDTH), tl.float32)
    place = here.to(tl.int64)
    for _ in range(0, tl.cdiv(end, CHUNK)):
        number = place[:, None] * WIDTH + column[None, :]
        next_peak = tl.load(peaks + place, mask=is_head, other=NOTHING)
        next_total = tl.load(totals + place, mask=is_head, other=0.0)
        next_mixed = tl.load(mixtures + number, mask=is_number, other=0.0)
        peak, total, mixed = merge(peak, total, mixed, next_peak, next_total, next_mixed)
        place += num_rows * num_heads
    mixed = mixed / tl.where(total == 0.0, 1.0, total)[:, None]
    number = here[:, None] * WIDTH + column[None, :]
    tl.store(out + number, mixed.to(out.dtype.element_ty), mask=is_number)


@triton.jit
def write_row(
    keys, values, k, v, written, page_stride, head_stride, k_row_stride, k_head_stride,
    v_row_stride, v_head_stride,
    HEADS: tl.constexpr, PADDED_HEADS: tl.constexpr, WIDTH: tl.constexpr,
    PADDED_WIDTH: tl.constexpr, PAGE: tl.constexpr,
):  # fmt: skip
    """Copy one row of `k` and `v`, all KV heads, to its place in the pages; grid (T,)."""
    row = tl.program_id(0)
    place = tl.load(written + row).to(tl.int64)
    head = tl.arange(0, PADDED_HEADS)[:, None]
    column = tl.arange(0, PADDED_WIDTH)[None, :]
    is_number = (head < HEADS) & (column < WIDTH)
    at = place // PAGE * page_stride + head * head_stride + place % PAGE * WIDTH + column
    k_at = row * k_row_stride + head * k_head_stride + column
    v_at = row * v_row_stride + head * v_head_stride + column
    tl.store(keys + at, tl.load(k + k_at, mask=is_number), mask=is_number)
    tl.store(values + at, tl.load(v + v_at, mask=is_number), mask=is_number)
