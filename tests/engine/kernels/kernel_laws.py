"""What holds for the Triton kernels, on a GPU or in Triton's interpreter.

Not collected: `test_paged_programs.py` runs this file in a process of its own, because the
interpreter is chosen by `TRITON_INTERPRET=1` before triton is first imported, and for good.
"""

import os
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch import Tensor

from tests.toy import toy_model
from unmask.engine.attention_backends.kernel import plan_kernel
from unmask.engine.engine import Engine
from unmask.engine.kernels.paged_attention import (
    attend_plain,
    attend_tiles,
    choose_rows_per_tile,
    most_tiles,
    plan_tiles,
    write_rows,
)
from unmask.engine.options import EngineParams
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt, Trajectory

DEVICE = torch.device("cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda")
FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16
# The interpreter cuts bf16 off where a GPU rounds: one unit in the last of 8 bits.
TOLERANCE = {FP32: 5e-6, BF16: 1.6e-2, FP16: 2e-3}

Fed = tuple[int, int]  # positions a sequence has cached, and rows it feeds now


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick's attention: the arguments of the plain twin, and where each sequence's rows are."""

    q: Tensor
    keys: Tensor
    values: Tensor
    table: Tensor
    sequence: Tensor
    limit: Tensor
    starts: Tensor
    counts: Tensor

    def plain(self) -> Tensor:
        return attend_plain(self.q, self.keys, self.values, self.table, self.sequence, self.limit)

    def tiled(self, rows: int = 8, is_split: bool | None = None) -> Tensor:
        """Attend by the kernel, in tiles for `rows` rows."""
        per = choose_rows_per_tile(rows, self.q.shape[1] // self.keys.shape[1])
        num_tiles = most_tiles(len(self.q), len(self.counts), per)
        tiles = plan_tiles(self.starts, self.counts, per, num_tiles)
        return attend_tiles(
            self.q, self.keys, self.values, self.table, self.limit, tiles, is_split=is_split
        )

    def rows_of(self, member: int) -> slice:
        start = int(self.starts[member])
        return slice(start, start + int(self.counts[member]))

    def alone(self, member: int, keep: slice = slice(None)) -> "Tick":
        """Return the tick that feeds only (some rows of) one sequence."""
        rows = torch.arange(len(self.q), device=DEVICE)[self.rows_of(member)][keep]
        return replace(
            self,
            q=self.q[rows],
            table=self.table[member : member + 1],
            sequence=torch.zeros_like(rows),
            limit=self.limit[rows],
            starts=torch.zeros(1, dtype=torch.long, device=DEVICE),
            counts=torch.tensor([len(rows)], device=DEVICE),
        )


def make_tick(
    fed: list[Fed],
    heads: tuple[int, int] = (4, 2),
    width: int = 16,
    page: int = 64,
    num_pages: int = 3,
    block: int = 4,
    dtype: torch.dtype = FP32,
) -> Tick:
    """Lay sequences on random pages, rows under a staircase; what no row may see is NaN."""
    generator = torch.Generator().manual_seed(sum(map(sum, fed)))
    num_heads, kv_heads = heads
    counts = torch.tensor([count for _, count in fed])
    starts = counts.cumsum(0) - counts
    sequence = torch.arange(len(fed)).repeat_interleave(counts)
    nth = torch.arange(len(sequence)) - starts[sequence]
    cached = torch.tensor([length for length, _ in fed])
    limit = cached[sequence] + (nth // block + 1) * block
    assert int(limit.max()) <= num_pages * page
    total = len(fed) * num_pages
    table = (torch.randperm(total, generator=generator) + 1).view(len(fed), num_pages)
    shape = (total + 1, kv_heads, page, width)
    keys, values = torch.randn(2, *shape, generator=generator)
    for member, pages in enumerate(table):
        longest = int(limit[sequence == member].max()) if counts[member] else 0
        hidden = torch.arange(num_pages * page).view(num_pages, page) >= longest
        for pool in (keys, values):
            pool[pages] = pool[pages].masked_fill(hidden[:, None, :, None], torch.nan)
    keys[0], values[0] = torch.nan, torch.nan
    q = torch.randn(len(sequence), num_heads, width, generator=generator)
    tensors = (table.int(), sequence, limit.int(), starts, counts)
    return Tick(*(x.to(DEVICE, dtype) for x in (q, keys, values)), *(x.to(DEVICE) for x in tensors))


def assert_near(mixed: Tensor, expected: Tensor) -> None:
    assert mixed.dtype == expected.dtype
    assert torch.isfinite(mixed).all()
    error = TOLERANCE[mixed.dtype]
    torch.testing.assert_close(mixed, expected, atol=error, rtol=error)


RAGGED: list[Fed] = [(8, 4), (40, 8), (3, 0), (100, 21), (0, 1)]


@pytest.mark.parametrize(
    ("heads", "width", "dtype"),
    [
        ((4, 2), 16, FP32),
        ((3, 3), 32, FP32),
        ((7, 1), 64, FP32),
        ((16, 1), 16, FP32),
        ((8, 2), 128, BF16),
        ((4, 2), 96, BF16),
        ((4, 2), 64, FP16),
    ],
    ids=str,
)
def test_tiles_attend_as_the_twin_does(
    heads: tuple[int, int], width: int, dtype: torch.dtype
) -> None:
    tick = make_tick(RAGGED, heads, width, dtype=dtype)
    assert_near(tick.tiled(), tick.plain())


@pytest.mark.parametrize(("page", "rows"), [(16, 32), (64, 1), (128, 32)])
def test_pages_and_tiles_of_any_size(page: int, rows: int) -> None:
    tick = make_tick(RAGGED, page=page, num_pages=256 // page)
    assert_near(tick.tiled(rows), tick.plain())


# Limits inside the first chunk, at its border, just past it, and in the third.
LONG: list[Fed] = [(1060, 8), (508, 4), (508, 8), (20, 4), (0, 0)]


@pytest.mark.parametrize("dtype", [FP32, BF16], ids=str)
def test_chunks_side_by_side_have_the_bits_of_chunks_in_a_row(dtype: torch.dtype) -> None:
    tick = make_tick(LONG, (2, 1), num_pages=17, dtype=dtype)
    split, walked = tick.tiled(is_split=True), tick.tiled(is_split=False)
    assert torch.equal(split, walked)
    assert_near(split, tick.plain())


@pytest.mark.parametrize("is_split", [False, True])
def test_a_row_does_not_know_its_company(is_split: bool) -> None:
    """Neither the batch, nor the rest of its tile, nor its place there, nor the table's width."""
    tick = make_tick(LONG, (2, 1), num_pages=17)
    together = tick.tiled(is_split=is_split)
    for member in range(4):
        rows = tick.rows_of(member)
        assert torch.equal(tick.alone(member).tiled(is_split=is_split), together[rows])
        first = tick.alone(member, slice(4)).tiled(is_split=is_split)
        assert torch.equal(first, together[rows][:4])
    last = tick.alone(2, slice(4, 8)).tiled(is_split=is_split)
    assert torch.equal(last, together[tick.rows_of(2)][4:])
    narrow = replace(tick.alone(3), table=tick.table[3:4, :1].contiguous())
    assert torch.equal(narrow.tiled(), together[tick.rows_of(3)])


def test_a_row_that_ends_early_is_not_changed_by_one_that_goes_on() -> None:
    tick = make_tick([(600, 8)], (2, 1), num_pages=10)
    early = tick.limit.clone()
    early[:3] = torch.tensor([1, 70, 512])
    mixed = replace(tick, limit=early).tiled()
    for row in range(3):
        only = tick.alone(0, slice(row, row + 1))
        only = replace(only, limit=early[row : row + 1]).tiled()
        assert torch.equal(only[0], mixed[row])
    assert torch.equal(mixed[3:], tick.tiled()[3:])


@pytest.mark.parametrize("is_split", [False, True])
def test_padding_rows_are_zeros(is_split: bool) -> None:
    """Inside a tile, a whole tile of them, and rows that are in no tile."""
    tick = make_tick([(600, 6), (8, 4), (8, 4)], (2, 1), num_pages=10)
    limit = tick.limit.clone()
    limit[4:] = 0
    tick = replace(tick, limit=limit, counts=tick.counts.clone())
    tick.counts[2] = 0
    mixed = tick.tiled(is_split=is_split)
    assert not mixed[4:].any()
    assert_near(mixed, tick.plain())


def test_views_of_larger_tensors_are_read_in_place() -> None:
    """One layer of a stacked cache, queries cut from a joint projection, wide integers."""
    tick = make_tick(RAGGED)
    joint = torch.cat([tick.q, torch.full_like(tick.q, torch.nan)], 1)
    pools = torch.stack([tick.keys, tick.values, tick.keys]).unsqueeze(0)
    viewed = replace(
        tick,
        q=joint[:, : tick.q.shape[1]],
        keys=pools[0, 2],
        values=pools[0, 1],
        table=tick.table.long(),
        limit=tick.limit.long(),
    )
    assert not viewed.q.is_contiguous()
    assert torch.equal(viewed.tiled(), tick.tiled())


@pytest.mark.parametrize(("kv_heads", "width"), [(2, 16), (3, 96)])
def test_rows_are_written_where_indexing_writes_them(kv_heads: int, width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    cache = torch.randn(2, 5, kv_heads, 64, width, generator=generator).to(DEVICE)
    joint = torch.randn(9, 3 * kv_heads, width, generator=generator).to(DEVICE)
    k, v = joint[:, kv_heads : 2 * kv_heads], joint[:, 2 * kv_heads :]
    written = torch.randperm(256, generator=generator)[:9] + 64
    written[-2:] = 0  # padding rows share one place of the scrap page
    expected = cache.clone()
    for pages, rows in zip(expected, (k, v), strict=True):
        pages[written.to(DEVICE) // 64, :, written.to(DEVICE) % 64] = rows
    write_rows(cache[0], cache[1], k, v, written.to(DEVICE))
    assert torch.equal(cache[:, 1:], expected[:, 1:])
    assert torch.equal(cache[:, 0, :, 1:], expected[:, 0, :, 1:])


def test_an_engine_on_the_kernel_writes_what_the_plain_one_writes() -> None:
    """Prompts, blocks and fused commits of mixed sequences, and of one that came back: one kernel for all."""
    model = toy_model(1, head_width=16).to(DEVICE)
    asks = [
        ([3, 4, 5] * length, SamplingParams(strategy=strategy, max_tokens=9, temperature=0))
        for length, strategy in ((1, "static"), (30, "dynamic"), (30, "static"))
    ]
    written = {}
    for kind in ("plain", "kernel"):
        engine = Engine(model, EngineParams(attention="plain", cache_tokens=256))
        if kind == "kernel":
            rows = choose_rows_per_tile(8, 2)
            engine._runner.planner = partial(plan_kernel, rows_per_tile=rows)
        for ids, sampling in asks:
            engine.submit(Prompt("toy", 0, (), tuple(ids)), sampling)
        written[kind] = {event.request_id: event.result for event in engine.collect()}
    for number, plain in written["plain"].items():
        kernel = written["kernel"][number]
        assert isinstance(plain, Trajectory) and isinstance(kernel, Trajectory)
        assert (plain.canvas_ids, plain.step_map) == (kernel.canvas_ids, kernel.step_map)
        gaps = zip(plain.behavior_logprobs, kernel.behavior_logprobs, strict=True)
        assert max(abs(a - b) for a, b in gaps) < 1e-4
