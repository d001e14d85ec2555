"""The runner feeds what is not cached, each row with its limit, and scores the hidden slots."""

import torch

from tests.engine.states import ask, opened
from tests.engine.writers import dense_logits
from tests.toy import toy_model
from unmask.engine.pages import PagePool
from unmask.engine.runner import Runner
from unmask.engine.slots import hidden_slots
from unmask.models.attention import ROW_TILE


def runner(fuses_commit: bool = True) -> Runner:
    model = toy_model(dtype=torch.float64)
    pages = PagePool(model)
    pages.reserve(4, 64)
    return Runner(model, pages, fuses_commit)


def test_a_prefill_and_its_first_block_are_fed_together() -> None:
    rows = runner().plan_rows(opened(ask(6), ask(0, block=2)))
    assert rows.sequence.tolist() == [0] * 8 + [1] * 2
    assert rows.position.tolist() == [*range(8), 0, 1]
    assert rows.limit.tolist() == [4] * 4 + [8] * 4 + [2, 2]
    assert rows.counts.tolist() == [8, 2] and rows.starts.tolist() == [0, 8]


def test_a_separate_commit_feeds_the_clean_text_alone() -> None:
    rows = runner(fuses_commit=False).plan_rows(opened(ask(6), ask(3)))
    assert rows.sequence.tolist() == [0] * 4 + [1] * 4
    assert rows.limit.tolist() == [4] * 8


def test_hidden_slots_are_scored_in_order() -> None:
    slots = opened(ask(6), ask(0, block=2))
    feed = runner()
    scored = feed.scored_rows(feed.plan_rows(slots), slots, hidden_slots(slots, True))
    assert scored[:4].tolist() == [6, 7, 8, 9]
    assert scored.shape == (ROW_TILE,) and not scored[4:].any()


def test_logits_are_those_of_the_dense_forward() -> None:
    asks = [ask(6), ask(21), ask(3, block=2)]
    slots = opened(*asks)
    hidden = hidden_slots(slots, True)
    feed = runner()
    logits = feed.forward(slots, hidden)[: hidden.sum()]
    expected = []
    for i, (ids, sampling) in enumerate(asks):
        assert sampling.block_size is not None
        length = (len(ids) // sampling.block_size + 1) * sampling.block_size
        dense = dense_logits(feed.model, sampling.block_size)(slots.tokens[i : i + 1, :length])
        expected.append(dense[0, len(ids) :])
    torch.testing.assert_close(logits, torch.cat(expected).detach())


def test_a_tick_without_hidden_slots_still_writes_the_cache() -> None:
    feed = runner(fuses_commit=False)
    slots = opened(ask(8))
    hidden = hidden_slots(slots, False)
    assert not hidden.any()
    assert feed.forward(slots, hidden).shape == (ROW_TILE, 24)
    assert feed.pages.keys[:, 1, :8].any(-1).all() and not feed.pages.keys[:, 1, 8:].any()
