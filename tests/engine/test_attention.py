"""Attention over the cache is dense attention under the rows' limits, however the rows are grouped."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unmask.engine.attention import CachedAttend, TickRows, plan_groups
from unmask.models.attention import QUERY_TILE

HEADS, KV_HEADS, WIDTH, SPACE = 4, 2, 8, 64

Fed = tuple[int, int]  # positions a sequence has cached, and rows it feeds now


def tick_rows(fed: list[Fed], limits: list[list[int]]) -> TickRows:
    counts = torch.tensor([count for _, count in fed])
    return TickRows(
        sequence=torch.arange(len(fed)).repeat_interleave(counts),
        position=torch.cat([torch.arange(c, c + n) for c, n in fed]),
        limit=torch.tensor([limit for row in limits for limit in row]),
        counts=counts,
        starts=counts.cumsum(0) - counts,
    )


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend with one query `(H, E)` to all of `k, v (L, Hk, E)`."""
    repeats = q.shape[0] // k.shape[1]
    k, v = (x.repeat_interleave(repeats, 1) for x in (k, v))
    weights = (torch.einsum("he,lhe->hl", q, k) / q.shape[-1] ** 0.5).softmax(-1)
    return torch.einsum("hl,lhe->he", weights, v)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=6), st.data()
)
def test_cached_attention_is_dense_attention_below_the_limit(
    fed: list[Fed], data: st.DataObject
) -> None:
    generator = torch.Generator().manual_seed(len(fed))
    limits = [[data.draw(st.integers(1, cached + n)) for _ in range(n)] for cached, n in fed]
    rows = tick_rows(fed, limits)
    num_rows = len(rows.position)
    pages = torch.tensor(data.draw(st.permutations(range(1, len(fed) + 1))))
    shape = (2, len(fed) + 1, SPACE, KV_HEADS, WIDTH)
    keys, values = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    before = keys.clone(), values.clone()
    q, k, v = (
        torch.randn(num_rows, heads, WIDTH, generator=generator, dtype=torch.float64)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    )
    groups, place = plan_groups(rows, pages)
    written = pages[rows.sequence] * SPACE + rows.position
    mixed = CachedAttend(keys, values, written, groups, place)(1, q, k, v)

    cache = before[0][1], before[1][1]
    for row in range(num_rows):
        at = pages[rows.sequence[row]], rows.position[row]
        cache[0][at], cache[1][at] = k[row], v[row]
    assert torch.equal(keys[1], cache[0]) and torch.equal(values[1], cache[1])
    assert torch.equal(keys[0], before[0][0])
    for row in range(num_rows):
        page = pages[rows.sequence[row]]
        seen = slice(0, int(rows.limit[row]))
        expected = dense(q[row], cache[0][page, seen], cache[1][page, seen])
        torch.testing.assert_close(mixed[row], expected)


def test_a_long_prefill_does_not_pad_the_others() -> None:
    """Four sequences feed four rows, one feeds sixty: a group each, and its keys end where it ends."""
    fed = [(0, 4), (8, 4), (0, 60), (4, 4), (12, 4)]
    rows = tick_rows(fed, [[c + n] * n for c, n in fed])
    groups, _ = plan_groups(rows, torch.arange(1, 6))
    assert [group.queries.shape for group in groups] == [(4, 4), (1, 64)]
    assert [group.mask.shape[-1] for group in groups] == [32, 64]
    assert groups[0].pages.tolist() == [1, 2, 4, 5]


def test_single_rows_are_padded_to_the_kernels_smallest_tile() -> None:
    rows = tick_rows([(3, 1), (5, 2)], [[4], [6, 7]])
    (group,), place = plan_groups(rows, torch.tensor([1, 2]))
    assert group.queries.shape == (2, QUERY_TILE)
    assert group.queries.tolist() == [[0, 0, 0, 0], [1, 2, 2, 2]]
    assert place.tolist() == [0, 4, 5]
