"""Attention over the pages is dense attention below the rows' limits, however the rows are grouped."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.engine.states import ALPHABET, ask, opened
from tests.toy import SPEC
from unmask.engine.attention import build_planner, plan_groups, plan_plain, uses_kernel
from unmask.engine.batch_plan import Rows, lay_rows, plan_feed
from unmask.engine.options import EngineParams
from unmask.engine.pages import SCRAP, num_pages
from unmask.engine.sequence_state import SequenceState
from unmask.models.attention import KEY_CHUNK, QUERY_TILE

HEADS, KV_HEADS, WIDTH = 4, 2, 8

Fed = tuple[int, int]  # positions a sequence has cached, and rows it feeds now


def rows_of(fed: list[Fed], limits: list[list[int]], num_padding: int = 0) -> Rows:
    counts = torch.tensor([count for _, count in fed])
    padding = torch.zeros(num_padding, dtype=torch.int64)
    sequence = torch.arange(len(fed)).repeat_interleave(counts)
    return Rows(
        sequence=torch.cat((sequence, padding + len(fed) - 1)),
        position=torch.cat([*(torch.arange(c, c + n) for c, n in fed), padding]),
        limit=torch.cat((torch.tensor([n for row in limits for n in row]).long(), padding)),
        starts=counts.cumsum(0) - counts,
        counts=counts,
    )


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend with one query `(H, E)` to all of `k, v (L, Hk, E)`."""
    repeats = q.shape[0] // k.shape[1]
    k, v = (x.repeat_interleave(repeats, 1) for x in (k, v))
    weights = (torch.einsum("he,lhe->hl", q, k) / q.shape[-1] ** 0.5).softmax(-1)
    return torch.einsum("hl,lhe->he", weights, v)


@st.composite
def ticks(draw: st.DrawFn) -> tuple[list[Fed], list[list[int]], list[int], int]:
    """Draw what sequences have cached and feed, limits that never fall, a page order and padding."""
    fed = draw(
        st.lists(
            st.tuples(st.sampled_from([0, 3, 60, 64, 130]), st.integers(0, 20)),
            min_size=1,
            max_size=5,
        ).filter(lambda fed: any(count for _, count in fed))
    )
    limits = [
        sorted(draw(st.lists(st.integers(1, max(1, cached + n)), min_size=n, max_size=n)))
        for cached, n in fed
    ]
    most = sum(num_pages(cached + n) for cached, n in fed)
    return fed, limits, draw(st.permutations(range(1, most + 1))), draw(st.integers(0, 5))


@settings(max_examples=40)
@given(ticks())
def test_paged_attention_is_dense_attention_below_the_limit(
    drawn: tuple[list[Fed], list[list[int]], list[int], int],
) -> None:
    fed, limits, pages, num_padding = drawn
    generator = torch.Generator().manual_seed(len(pages))
    rows = rows_of(fed, limits, num_padding)
    num_rows, free = len(rows.position), iter(pages)
    own = [[next(free) for _ in range(num_pages(cached + n))] for cached, n in fed]
    table = torch.full((len(fed), max(map(len, own), default=1) + 1), SCRAP)
    for sequence, numbers in enumerate(own):
        table[sequence, : len(numbers)] = torch.tensor(numbers)
    shape = (2, len(pages) + 1, KV_HEADS, KEY_CHUNK, WIDTH)
    keys, values = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    before = keys.clone(), values.clone()
    q, k, v = (
        torch.randn(num_rows, heads, WIDTH, generator=generator, dtype=torch.float64)
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    )
    mixed = plan_plain(rows, table, keys, values, HEADS)(1, q, k, v)

    def text(cache: Tensor, sequence: int) -> Tensor:
        """Return a sequence's keys in order `(L, Hk, E)`."""
        return cache[1, table[sequence]].transpose(1, 2).flatten(0, 1)

    real = range(num_rows - num_padding)
    for row in real:
        page, place = divmod(int(rows.position[row]), KEY_CHUNK)
        page = int(table[rows.sequence[row], page])
        before[0][1, page, :, place], before[1][1, page, :, place] = k[row], v[row]
    assert torch.equal(keys[:, 1:], before[0][:, 1:]), "nothing else is written, but scrap"
    assert torch.equal(values[:, 1:], before[1][:, 1:])
    assert mixed.shape == q.shape and mixed.isfinite().all()
    for row in real:
        sequence, seen = int(rows.sequence[row]), int(rows.limit[row])
        expected = dense(q[row], text(keys, sequence)[:seen], text(values, sequence)[:seen])
        torch.testing.assert_close(mixed[row], expected)


def planned(state: SequenceState) -> Rows:
    feed = plan_feed(state, int(state.block.max()), EngineParams(row_budget=10**6), ALPHABET)
    return lay_rows(state, feed, 16, is_full=False)


def test_a_long_prefill_does_not_pad_the_others() -> None:
    """Four sequences feed four rows, one feeds sixty: a group each, and its keys end where it ends."""
    fed = [(0, 4), (8, 4), (64, 60), (4, 4), (12, 4)]
    rows = rows_of(fed, [[c + n] * n for c, n in fed])
    groups, _ = plan_groups(rows, torch.arange(1, 11).view(5, 2), 2, 2)
    assert [group.queries.shape for group in groups] == [(8, 4), (2, 60)]
    assert [group.pages.shape[-1] for group in groups] == [1, 2]
    first, second = groups  # of every page, the rows of its two heads
    assert first.pages.tolist() == [[2], [3], [6], [7], [14], [15], [18], [19]]
    assert second.pages.tolist() == [[10, 12], [11, 13]]


def test_single_rows_are_padded_to_the_kernels_smallest_tile() -> None:
    rows = rows_of([(3, 1), (5, 2)], [[4], [6, 7]])
    (group,), place = plan_groups(rows, torch.tensor([[1], [2]]), 1, 1)
    assert group.queries.shape == (2, QUERY_TILE)
    assert group.queries.tolist() == [[0, 0, 0, 0], [1, 2, 2, 2]]
    assert place.tolist() == [1, 5, 6], "the first place is for padding"


def test_heads_that_share_keys_are_rows_of_one_product() -> None:
    rows = rows_of([(60, 8)], [[64] * 4 + [68] * 4])
    (group,), place = plan_groups(rows, torch.tensor([[1, 2]]), 4, 2)
    heads = torch.arange(8 * 4).view(8, 4)  # of the packed rows
    assert group.queries.tolist() == [
        [*heads[:, 0].tolist(), *heads[:, 1].tolist()],
        [*heads[:, 2].tolist(), *heads[:, 3].tolist()],
    ]
    outputs = torch.cat((torch.tensor([-1]), group.queries.flatten()))
    assert torch.equal(outputs[place], heads.flatten())
    # Every row sees the first page whole.
    assert group.hidden.shape == (1, 1, 8, 64) and group.hidden.sum(-1).tolist() == [
        [[64] * 4 + [60] * 4]
    ]


def test_sequences_of_many_lengths_are_few_groups() -> None:
    """Page counts are rounded up, so that a tick is not one call per length."""
    fed = [(64 * pages, 4) for pages in range(40)]
    rows = rows_of(fed, [[c + 4] * 4 for c, _ in fed])
    groups, _ = plan_groups(rows, torch.arange(40 * 40).view(40, 40), 1, 1)
    assert len(groups) <= 17
    assert sum(g.pages.numel() for g in groups) <= 1.25 * sum(range(1, 41))


def test_a_fused_commit_reads_what_the_same_pass_writes() -> None:
    """Rows of the block read the finished block before it, fed in the same pass, and not the reverse."""
    state = opened(ask(4))
    state.set(start=torch.tensor([4]), cached=torch.tensor([0]))
    rows = planned(state)
    assert rows.limit[:8].tolist() == [4] * 4 + [8] * 4
    shape = (1, 4, KV_HEADS, KEY_CHUNK, WIDTH)
    keys, values = torch.zeros(shape), torch.zeros(shape)
    q, k, v = (torch.randn(16, heads, WIDTH) for heads in (HEADS, KV_HEADS, KV_HEADS))
    plain = plan_plain(rows, state.table, keys, values, HEADS)(0, q, k, v)
    for row, seen in ((3, 4), (4, 8), (7, 8)):
        torch.testing.assert_close(plain[row], dense(q[row], k[:seen], v[:seen]))


def test_plain_attention_is_chosen_where_there_is_no_kernel() -> None:
    cpu = torch.device("cpu")
    assert not uses_kernel("auto", cpu) and not uses_kernel("plain", cpu)
    with pytest.raises(ValueError, match="attention = 'kernel': needs a CUDA device and triton"):
        build_planner("kernel", SPEC, cpu)
