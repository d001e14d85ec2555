"""The engine's paged attention kernel against its plain twin, over the shapes of real families.

Rows see a staircase of blocks over pages in random order; contexts reach 4,096 tokens. Where no kernel runs, in a
rehearsal, the plain backend of the engine is compared instead.
"""

from typing import Any

import torch
from torch import Tensor

from tools.gpu.part import Outcome, Part, Setting
from tools.gpu.small_models import FORMATS, difference, relative
from unmask.engine.kernels.paged_attention import (
    attend_plain,
    attend_tiles,
    choose_rows_per_tile,
    has_kernel,
    most_tiles,
    plan_tiles,
    write_rows,
)
from unmask.models.attention import KEY_CHUNK

# Head width, query heads, key heads, block: SDAR, Qwen2.5-7B, LLaDA, and blocks of 32.
SHAPES = ((128, 32, 8, 4), (128, 28, 4, 4), (64, 8, 8, 4), (96, 8, 2, 32), (128, 64, 8, 32))
BOUND = {"fp32": 1e-5, "bf16": 1.6e-2}  # of the largest value; one unit of bf16 is 8e-3
BLOCKS_FED = 2  # with a fused commit


def run(setting: Setting) -> Outcome:
    """Compare all shapes in bf16, some in fp32, with chunks side by side and one after the other."""
    lengths = [5, 70, 130] if setting.is_tiny else [3, 64, 500, 513, 1024, 2050, 4000, 4064]
    figures: dict[str, Any] = {"lengths": lengths}
    passed = True
    cells = [("bf16", shape) for shape in SHAPES] + [("fp32", shape) for shape in SHAPES[:3]]
    for name, shape in cells[3:6] if setting.is_tiny else cells:
        found = compare(setting.device, FORMATS[name], shape, lengths)
        figures[f"{name} {shape}"] = found
        passed &= relative(found) <= BOUND[name] and found["same_bits"] and found["same_writes"]
    worst = {
        name: max(relative(x) for key, x in figures.items() if key.startswith(name))
        for name in FORMATS
    }
    summary = f"fp32 within {worst['fp32']:.1e}, bf16 {worst['bf16']:.1e} of the largest value"
    return Outcome(summary, passed, figures)


def compare(
    device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int, int], lengths: list[int]
) -> dict[str, Any]:
    """Return the differences of one shape; `same_bits` of split and unsplit chunks, `same_writes` of rows."""
    width, heads, kv_heads, block = shape
    generator = torch.Generator().manual_seed(width + heads)
    cached = torch.tensor(lengths) // block * block
    counts = torch.full_like(cached, BLOCKS_FED * block)
    starts = counts.cumsum(0) - counts
    sequence = torch.arange(len(lengths)).repeat_interleave(counts)
    row = torch.arange(len(sequence)) - starts[sequence]
    limit = cached[sequence] + (row // block + 1) * block
    num_pages = -(-int(limit.max()) // KEY_CHUNK)
    total = len(lengths) * num_pages
    table = (torch.randperm(total, generator=generator) + 1).view(len(lengths), num_pages)
    pool = (2, total + 1, kv_heads, KEY_CHUNK, width)
    keys, values = torch.randn(pool, generator=generator).to(device, dtype)
    q = torch.randn(len(sequence), heads, width, generator=generator).to(device, dtype)
    table, sequence, limit, starts, counts = (
        x.to(device) for x in (table, sequence, limit, starts, counts)
    )
    expected = attend_plain(q, keys, values, table, sequence, limit)
    if not has_kernel(device):
        again = attend_plain(q.double(), keys.double(), values.double(), table, sequence, limit)
        return {**difference(expected, again), "same_bits": True, "same_writes": True}
    per_tile = choose_rows_per_tile(BLOCKS_FED * block, heads // kv_heads)
    tiles = plan_tiles(starts, counts, per_tile, most_tiles(len(q), len(counts), per_tile))
    walked, split = (
        attend_tiles(q, keys, values, table, limit, tiles, is_split=is_split)
        for is_split in (False, True)
    )
    return {
        **difference(walked, expected),
        "same_bits": torch.equal(walked, split),
        "same_writes": writes_alike(keys, values, generator),
    }


def writes_alike(keys: Tensor, values: Tensor, generator: torch.Generator) -> bool:
    """Return whether the kernel writes rows where indexing writes them."""
    _, kv_heads, page, width = keys.shape
    places = torch.randperm(page * (len(keys) - 1), generator=generator)[:37].to(keys.device) + page
    k, v = torch.randn(2, 37, kv_heads, width, generator=generator).to(keys)
    expected = keys.clone(), values.clone()
    for pages, rows in zip(expected, (k, v), strict=True):
        pages[places // page, :, places % page] = rows
    write_rows(keys, values, k, v, places)
    return torch.equal(keys, expected[0]) and torch.equal(values, expected[1])


# Eight shapes, two kernels each, 1 to 2 s of compilation the first time: 20 s.
PART = Part("paged attention kernel against its plain twin", "correctness", run, limit_s=90)
