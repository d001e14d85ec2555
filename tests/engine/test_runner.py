"""One step on the device: the logits are the dense forward's, the pages hold what was fed, sizes change nothing."""

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from tests.engine.states import ask, opened
from tests.engine.writers import Ask, dense_logits
from tests.toy import toy_model
from unmask.engine.attention_backends import plain
from unmask.engine.image_table import ImageTable
from unmask.engine.options import EngineParams
from unmask.engine.pages import PagePool
from unmask.engine.runner import Runner, Sizes
from unmask.engine.sequence_state import COLUMNS, SequenceState
from unmask.models.attention import ROW_TILE
from unmask.models.conventions import conventions_of


def runner(params: EngineParams | None = None) -> Runner:
    model = toy_model(dtype=torch.float64)
    pages = PagePool(model)
    pages.take(8)
    params = (params or EngineParams()).on(model.device)
    planner = plain.BACKEND.build(model.spec)
    return Runner(model, pages, planner, params, conventions_of(model), ImageTable())


def dense_rows(one: Runner, state: SequenceState, asks: list[Ask]) -> Tensor:
    """Return the logits of every masked position of the first blocks, by dense forward passes."""
    rows: list[Tensor] = []
    for i, (ids, sampling) in enumerate(asks):
        assert sampling.block_size is not None
        length = (len(ids) // sampling.block_size + 1) * sampling.block_size
        dense = dense_logits(one.model, sampling.block_size)(state.tokens[i : i + 1, :length])
        rows.append(dense[0, len(ids) :])
    return torch.cat(rows).detach()


@pytest.mark.parametrize("sizes", [Sizes(4), Sizes(8, 96, 32)], ids=["as it comes", "padded"])
def test_logits_are_those_of_the_dense_forward(sizes: Sizes) -> None:
    asks = [ask(6), ask(21), ask(3, block=2)]
    state, one, seen = opened(*asks), runner(), []
    expected = dense_rows(one, state, asks)
    one.model.register_forward_hook(lambda _, inputs, logits: seen.append(logits))
    one.step(state, sizes)
    torch.testing.assert_close(seen[0][: len(expected)].clone(), expected)
    assert state.cached.tolist() == [4, 20, 2] and state.forwards.tolist() == [1, 1, 1]


def test_sizes_change_nothing() -> None:
    """Chosen beforehand, with padding, as on CUDA: the same state, pass after pass."""
    asks = [ask(6), ask(21, threshold=0.1), ask(3, block=2, edit_threshold=0.2), ask(0, seed=4)]
    narrow, wide = opened(*asks), opened(*asks)
    one, other = runner(), runner()
    for _ in range(8):
        one.step(narrow, Sizes(4))
        other.step(wide, Sizes(8, 128, 48))
    assert narrow.num_response.any(), "a response ended"
    for name in COLUMNS:
        here, there = getattr(narrow, name), getattr(wide, name)
        # The last place is scrap.
        cut = slice(None, -1) if here.dim() == 2 and name not in ("table", "stop_ids") else ...
        torch.testing.assert_close(here[..., cut], there[..., cut], rtol=0, atol=1e-12)


def test_a_step_waits_for_its_budget() -> None:
    state, one = opened(ask(21), ask(21)), runner(EngineParams(row_budget=24))
    one.step(state, Sizes(4))
    assert state.cached.tolist() == [20, 0] and state.step.tolist() == [1, 0]
    one.step(state, Sizes(4))
    assert state.cached[1] == 20 and state.forwards.tolist() == [2, 1]


def test_a_separate_commit_writes_the_cache_and_scores_nothing() -> None:
    one, state = runner(EngineParams(fuses_commit=False)), opened(ask(8))
    seen: list[Tensor] = []
    one.model.register_forward_hook(lambda _, inputs, logits: seen.append(logits))
    one.step(state, Sizes(4))
    assert seen[0].shape == (ROW_TILE, 24) and not state.step.any()
    page = int(state.table[0, 0])
    written = one.pages.keys[:, page].transpose(1, 2).flatten(2)  # (layers, W, Hk * E)
    assert written[:, :8].any(-1).all() and not written[:, 8:].any()


def test_a_state_is_changed_in_place() -> None:
    """A captured step replays on addresses: no column may move."""
    state, one = opened(ask(6), ask(3)), runner()
    places = {name: getattr(state, name).data_ptr() for name in COLUMNS}
    one.step(state, Sizes(4))
    assert places == {name: getattr(state, name).data_ptr() for name in COLUMNS}
    assert {field.name for field in fields(SequenceState)} - set(COLUMNS) == {"sampling"}
