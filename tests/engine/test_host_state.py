"""Counters on the host, and the bounds of a pass that it derives from them."""

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.states import ask, opened, request_of
from tests.engine.writers import Ask, by_engine, some_asks
from tests.toy import SPEC, toy_model
from unmask.diffusion.unmask import scored_positions
from unmask.engine.batch_plan import plan_block, plan_feed
from unmask.engine.host_state import FIELDS, HostState, most_revealed
from unmask.engine.options import EngineParams
from unmask.engine.runner import Runner, Sizes
from unmask.engine.scheduler import Running, Start
from unmask.engine.sequence_state import SequenceState
from unmask.models.attention import KEY_CHUNK, ROW_TILE


def running(*asks: Ask) -> tuple[SequenceState, dict[int, Running]]:
    state = opened(*asks)
    runs = {n: Running(request_of(n, one), [n + 1]) for n, one in enumerate(asks)}
    return state, runs


def host_of(state: SequenceState) -> HostState:
    host = HostState()
    host.receive(host.send(state))
    return host


def test_a_report_shows_ended_sequences_and_fed_prompts() -> None:
    state, runs = running(ask(6), ask(3), ask(2))
    state.set(num_response=torch.tensor([0, 5, -1]), step=torch.tensor([1, 2, 0]))
    host = host_of(state)
    assert host.done(runs) == [1, 2]
    assert [host.has_fed(index, runs) for index in range(3)] == [True, True, False]


def test_a_report_of_an_earlier_request_at_the_same_index_is_ignored() -> None:
    """Read late, a report may speak of a sequence that left, and whose sequence index another one has."""
    state, runs = running(ask(6), ask(3))
    state.set(num_response=torch.tensor([4, 4]))
    host = host_of(state)
    runs[1] = Running(request_of(7, ask(3)), [2])
    assert host.done(runs) == [0] and not host.is_current(1, runs) and not host.has_fed(1, runs)
    del runs[0]
    assert host.done(runs) == [] and not host.is_current(5, runs)


def test_a_sequence_near_the_end_of_its_pages_is_short() -> None:
    """Up to the end of the block after the current one, which a late report may not know of."""
    state, runs = running(*(ask(4, max_tokens=90) for _ in range(4)))
    state.set(start=torch.tensor([52, 56, 60, 60]))
    state.active[3] = False
    assert host_of(state).short(runs) == {2: 68}, "one page holds 64"
    runs[2].pages.append(9)
    assert host_of(state).short(runs) == {}


@pytest.mark.parametrize("num_response", [0, 3])
def test_a_response_is_decided_up_to_its_block_or_its_end(num_response: int) -> None:
    state, _ = running(ask(5))
    state.set(start=torch.tensor([8]), num_response=torch.tensor([num_response]))
    assert host_of(state).end_of(0, 5) == 8
    state.set(start=torch.tensor([4]))
    assert host_of(state).end_of(0, 5) == (8 if num_response else 4)


PHASES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2), st.integers(0, 15)), max_size=5)


@given(PHASES, st.integers(1, 100))
def test_a_bound_is_one(phases: list[tuple[int, int, int]], budget: int) -> None:
    """A state up to one tick past its report feeds and scores no more than the bound."""
    asks = [ask(num_prompt, max_tokens=40) for num_prompt, _, _ in phases] or [ask(0)]
    state = opened(*asks)
    for index, (_, blocks, cached) in enumerate(phases):
        state.start[index] += 4 * blocks
        state.cached[index] = min(4 * cached, int(state.start[index]))
    host = host_of(state)
    host.bound(0, is_full=False, row_tile=ROW_TILE)  # sequences waited in the tick since
    num_rows, num_scored = host.bound(10**6, is_full=False, row_tile=ROW_TILE)
    waited = state.start + 4 - state.cached
    finished = torch.minimum(state.start + 8, state.canvas_end) - state.start
    assert num_rows >= int(torch.maximum(waited, finished).sum())
    assert num_scored >= 4 * len(asks)
    assert num_rows % ROW_TILE == num_scored % ROW_TILE == 0
    assert host.bound(budget, is_full=False, row_tile=ROW_TILE)[0] <= 2 * max(
        budget, int(state.canvas_end.max()), ROW_TILE
    )


class Checked(Runner):
    """Compares the sizes of every step with the rows that it really has."""

    fed: ClassVar[list[tuple[int, int]]]

    def step(self, state: SequenceState, sizes: Sizes) -> None:
        feed = plan_feed(state, sizes.width, self.params, self.conventions)
        block, _ = plan_block(state, feed, sizes.width, self.conventions)
        fed = int(feed.counts.sum())
        scored = int(scored_positions(block, state.sampling).sum())
        assert sizes.num_rows is not None and sizes.num_scored is not None
        assert fed <= sizes.num_rows and scored <= sizes.num_scored
        self.fed.append((fed, sizes.num_rows))
        super().step(state, sizes)


@pytest.mark.parametrize(
    "changes",
    [{}, {"attention": "full", "block_size": 8}, {"is_shifted": True}],
    ids=["blocks", "full", "shifted"],
)
@pytest.mark.parametrize(
    "params",
    [
        EngineParams(),
        EngineParams(row_budget=24),
        EngineParams(max_sequences=3, fuses_commit=False),
        EngineParams(max_sequences=9, cache_tokens=4 * KEY_CHUNK),
        EngineParams(cache="dual"),
    ],
    ids=["as usual", "small budget", "separate commits", "small cache", "dual"],
)
def test_every_pass_fits_the_sizes_chosen_for_it(
    changes: dict[str, Any], params: EngineParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every strategy and schedule, prompts that wait, and sequences that are preempted."""
    monkeypatch.setattr("unmask.engine.engine.Runner", Checked)
    Checked.fed = []
    model = toy_model(2, **changes)
    by_engine(model, some_asks(24, 5, model, longest=60), replace(params, reads_late=True))
    assert Checked.fed


@pytest.mark.parametrize(("per_pass", "most"), [(1, 1.25), (2, 1.4), (4, 1.05)])
def test_a_known_number_of_tokens_per_pass_leaves_little_padding(
    per_pass: int, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passes of sequences whose blocks end at different ticks have few rows more than they feed."""
    monkeypatch.setattr("unmask.engine.engine.Runner", Checked)
    Checked.fed = []
    model = toy_model(2, block_size=4)
    fixed = {"strategy": "static", "denoising_steps": 4 // per_pass, "stop_token_ids": ()}
    asks = [ask(20 + n % 4, max_tokens=48, **fixed) for n in range(32)]
    by_engine(model, asks, EngineParams(reads_late=True, shares_prefixes=False))
    settled = Checked.fed[3:-6]
    fed, sizes = (sum(column) for column in zip(*settled, strict=True))
    assert sizes <= most * fed


def test_the_most_that_a_pass_reveals() -> None:
    fixed = {"strategy": "static", "denoising_steps": 2}
    assert most_revealed(request_of(0, ask(3, **fixed))) == 2
    assert most_revealed(request_of(0, ask(3, **{**fixed, "denoising_steps": 3}))) == 2
    assert most_revealed(request_of(0, ask(3, **{**fixed, "denoising_steps": 9}))) == 1
    for unknown in ({"strategy": "dynamic"}, {"schedule": "linear"}, {"edit_threshold": 0.5}):
        assert most_revealed(request_of(0, ask(3, **{**fixed, **unknown}))) == 4


def test_a_new_sequence_counts_before_any_report() -> None:
    host = HostState()
    request = request_of(0, ask(50))
    host.begin([Start(0, request, [1], 0, None, True)])
    assert host.bound(10**6, is_full=False, row_tile=ROW_TILE) == (64, ROW_TILE), (
        "60 rows of one page"
    )
    state, _ = running(ask(50))
    early = host.send(state)
    host.begin([Start(1, request_of(1, ask(50)), [2], 0, None, True)])
    host.receive(early)
    assert host.bound(10**6, is_full=False, row_tile=ROW_TILE)[0] >= 60 + 8, (
        "the second began after the report was sent"
    )


def test_many_new_prompts_are_fed_within_the_row_budget() -> None:
    """Not in one pass of all their rows, whose graph would hold the memory of it for good."""
    host = HostState()
    host.begin([Start(n, request_of(n, ask(50)), [n + 1], 0, None, True) for n in range(100)])
    assert host.bound(512, is_full=False, row_tile=ROW_TILE)[0] == 512


def test_only_a_few_sizes_are_chosen() -> None:
    sizes = set()
    spec = replace(SPEC, max_length=4096)
    for count in range(1, 2000, 7):
        host, request = HostState(), request_of(0, ask(0, max_tokens=count), spec)
        host.begin([Start(0, request, [1] * 99, 0, None, True)])
        size = host.bound(10**6, is_full=False, row_tile=ROW_TILE)[0]
        assert count <= size <= max(ROW_TILE, 2 * (count + 4))
        sizes.add(size)
    assert len(sizes) <= 16


def test_a_report_has_a_row_per_field() -> None:
    state, _ = running(ask(6), ask(3))
    assert HostState().send(state).counters.shape == (len(FIELDS), 2)
