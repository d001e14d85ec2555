"""The plan covers every row once, the twins do what they say, and nothing here needs triton."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unmask.engine.kernels.paged_attention import (
    FEWEST_FOLDED,
    MOST_FOLDED,
    attend_plain,
    choose_rows_per_tile,
    has_kernel,
    most_tiles,
    plan_tiles,
    shape_of,
)

PAGE = 16


def naive_tiles(starts: list[int], counts: list[int], rows: int) -> list[tuple[int, int, int]]:
    return [
        (member, start + done, min(rows, count - done))
        for member, (start, count) in enumerate(zip(starts, counts, strict=True))
        for done in range(0, count, rows)
    ]


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), min_size=1, max_size=8),
    st.integers(1, 12),
    st.integers(0, 4),
)
def test_tiles_cover_every_row_once(fed: list[tuple[int, int]], rows: int, more: int) -> None:
    """Sequences lie one after the other, with gaps of rows that belong to none."""
    starts, end = [], 0
    for count, gap in fed:
        starts.append(end + gap)
        end += gap + count
    counts = [count for count, _ in fed]
    expected = naive_tiles(starts, counts, rows)
    num_tiles = most_tiles(sum(counts), len(counts), rows) + more
    tiles = plan_tiles(torch.tensor(starts), torch.tensor(counts), rows, num_tiles)
    found = list(
        zip(tiles.sequence.tolist(), tiles.first.tolist(), tiles.count.tolist(), strict=True)
    )
    assert found[: len(expected)] == expected
    assert {count for _, _, count in found[len(expected) :]} <= {0}
    assert tiles.sequence.dtype == tiles.first.dtype == tiles.count.dtype == torch.int32
    assert all(0 <= member < len(fed) and first >= 0 for member, first, _ in found)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(1, 12))
def test_most_tiles_is_enough_and_no_more_than_one_a_row(counts: list[int], rows: int) -> None:
    most = most_tiles(sum(counts), len(counts), rows)
    assert sum(-(-count // rows) for count in counts) <= most <= sum(counts)


@pytest.mark.parametrize(
    ("num_rows", "ratio", "expected"),
    [(8, 4, 8), (4, 4, 4), (1, 4, 4), (64, 4, 32), (8, 1, 16), (8, 7, 9), (64, 16, 8), (9, 4, 16)],
)
def test_a_tile_fills_a_power_of_two(num_rows: int, ratio: int, expected: int) -> None:
    rows = choose_rows_per_tile(num_rows, ratio)
    assert rows == expected
    assert FEWEST_FOLDED - ratio < rows * ratio <= MOST_FOLDED


def test_shape_depends_on_width_and_format_and_fits_the_page() -> None:
    narrow, padded = shape_of(128, torch.bfloat16, 64), shape_of(96, torch.bfloat16, 64)
    assert narrow == padded
    assert narrow[:2] == (128, 64)
    assert shape_of(128, torch.float32, 64)[1] == 32
    assert shape_of(128, torch.bfloat16, 16)[1] == 16
    assert shape_of(8, torch.float16, 64)[0] == 16


def one_by_one(
    q: Tensor, keys: Tensor, values: Tensor, table: Tensor, sequence: Tensor, limit: Tensor
) -> Tensor:
    """Attend number by number: every row, head and key by itself."""
    out = torch.zeros_like(q)
    ratio = q.shape[1] // keys.shape[1]
    for row in range(len(q)):
        for head in range(q.shape[1]):
            places = [
                (int(table[sequence[row], p // PAGE]), head // ratio, p % PAGE)
                for p in range(int(limit[row]))
            ]
            scores = [torch.dot(q[row, head], keys[place]) / q.shape[-1] ** 0.5 for place in places]
            if scores:
                weights = torch.stack(scores).exp()
                mixed = sum(w * values[place] for w, place in zip(weights, places, strict=True))
                out[row, head] = mixed / weights.sum()
    return out


@pytest.mark.parametrize(("num_heads", "kv_heads"), [(2, 2), (6, 2), (3, 1)])
def test_twin_is_attention_number_by_number(num_heads: int, kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(num_heads)
    table = (torch.randperm(6, generator=generator) + 1).view(3, 2)
    sequence = torch.tensor([0, 0, 0, 2, 2])
    limit = torch.tensor([3, 17, 0, 32, 1])
    q = torch.randn(5, num_heads, 8, generator=generator, dtype=torch.float64)
    keys, values = torch.randn(2, 7, kv_heads, PAGE, 8, generator=generator, dtype=torch.float64)
    for pool in (keys, values):  # no limit reaches past 17, the second sequence or the scrap
        pool[table[0, 1], :, 1:] = torch.nan
        pool[table[1]] = torch.nan
        pool[0] = torch.nan
    arguments = (q, keys, values, table, sequence, limit)
    torch.testing.assert_close(attend_plain(*arguments), one_by_one(*arguments))
    single = attend_plain(q.float(), keys.float(), values.float(), table, sequence, limit)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, one_by_one(*arguments).float())


def test_cpu_has_no_kernel_and_triton_is_not_imported() -> None:
    assert not has_kernel(torch.device("cpu"))
    program = (
        "import sys, unmask.engine.kernels.paged_attention;"
        "sys.exit('unmask.engine.kernels.paged_programs' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
