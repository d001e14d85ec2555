"""Plain attention over the pages is dense attention below the rows' limits, however the rows are grouped."""

from functools import partial

import torch
from hypothesis import given, settings

from tests.engine.attention_backends.ticks import (
    HEADS,
    KV_HEADS,
    WIDTH,
    Drawn,
    check_tick,
    dense,
    rows_of,
    ticks,
)
from tests.engine.states import ALPHABET, ask, opened
from unmask.engine.attention_backends.plain import plan_groups, plan_plain
from unmask.engine.batch_plan import Rows, lay_rows, plan_feed
from unmask.engine.options import EngineParams
from unmask.engine.sequence_state import SequenceState
from unmask.models.attention import KEY_CHUNK, QUERY_TILE


@settings(max_examples=40)
@given(ticks())
def test_paged_attention_is_dense_attention_below_the_limit(drawn: Drawn) -> None:
    check_tick(partial(plan_plain, num_heads=HEADS), drawn)


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
