"""What the host knows, and the bounds it chooses a pass by before it knows more."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.states import ask, opened, request_of
from tests.engine.writers import Ask
from tests.toy import SPEC
from unmask.engine.host_state import FIELDS, Books
from unmask.engine.scheduler import Running, Start
from unmask.engine.sequence_state import Slots
from unmask.models.attention import ROW_TILE


def running(*asks: Ask) -> tuple[Slots, dict[int, Running]]:
    slots = opened(*asks)
    runs = {n: Running(request_of(n, one), [n + 1]) for n, one in enumerate(asks)}
    return slots, runs


def books_of(slots: Slots) -> Books:
    books = Books()
    books.receive(books.send(slots))
    return books


def test_a_report_tells_who_ended_and_who_fed_a_prompt() -> None:
    slots, runs = running(ask(6), ask(3), ask(2))
    slots.set(num_response=torch.tensor([0, 5, -1]), step=torch.tensor([1, 2, 0]))
    books = books_of(slots)
    assert books.done(runs) == [1, 2]
    assert [books.has_fed(slot, runs) for slot in range(3)] == [True, True, False]


def test_a_report_about_whoever_ran_there_before_says_nothing() -> None:
    """Read late, a report may speak of a sequence that left, and whose slot another one took."""
    slots, runs = running(ask(6), ask(3))
    slots.set(num_response=torch.tensor([4, 4]))
    books = books_of(slots)
    runs[1] = Running(request_of(7, ask(3)), [2])
    assert books.done(runs) == [0] and not books.knows(1, runs) and not books.has_fed(1, runs)
    del runs[0]
    assert books.done(runs) == [] and not books.knows(5, runs)


def test_who_comes_to_the_end_of_its_pages_is_short() -> None:
    """Up to the end of the block after the current one, which a late report may not know of."""
    slots, runs = running(*(ask(4, max_tokens=90) for _ in range(4)))
    slots.set(start=torch.tensor([52, 56, 60, 60]))
    slots.active[3] = False
    assert books_of(slots).short(runs) == {2: 68}, "one page holds 64"
    runs[2].pages.append(9)
    assert books_of(slots).short(runs) == {}


@pytest.mark.parametrize("num_response", [0, 3])
def test_a_response_is_decided_up_to_its_block_or_its_end(num_response: int) -> None:
    slots, _ = running(ask(5))
    slots.set(start=torch.tensor([8]), num_response=torch.tensor([num_response]))
    assert books_of(slots).end_of(0, 5) == 8
    slots.set(start=torch.tensor([4]))
    assert books_of(slots).end_of(0, 5) == (8 if num_response else 4)


PHASES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2), st.integers(0, 15)), max_size=5)


@given(PHASES, st.integers(1, 100))
def test_a_bound_is_one(phases: list[tuple[int, int, int]], budget: int) -> None:
    """No state that a report, one tick old, is true of feeds or scores more than it says."""
    asks = [ask(num_prompt, max_tokens=40) for num_prompt, _, _ in phases] or [ask(0)]
    slots = opened(*asks)
    for slot, (_, blocks, cached) in enumerate(phases):
        slots.start[slot] += 4 * blocks
        slots.cached[slot] = min(4 * cached, int(slots.start[slot]))
    books = books_of(slots)
    for moved in (0, 4):
        wanted = torch.minimum(slots.start + 4 + moved, slots.canvas_end) - slots.cached
        num_rows, num_scored = books.bound(10**6, is_full=False, row_tile=ROW_TILE)
        assert num_rows >= int(wanted.sum()) and num_scored >= 4 * len(asks)
        assert num_rows % ROW_TILE == num_scored % ROW_TILE == 0
    assert books.bound(budget, is_full=False, row_tile=ROW_TILE)[0] <= 2 * (
        budget + int(slots.canvas_end.max()) + ROW_TILE
    )


def test_who_has_just_begun_counts_before_any_report() -> None:
    books = Books()
    request = request_of(0, ask(50))
    books.begin([Start(0, request, [1], 0, None, True)])
    assert books.bound(10**6, is_full=False, row_tile=ROW_TILE) == (64, ROW_TILE), (
        "60 rows of one page"
    )
    slots, _ = running(ask(50))
    early = books.send(slots)
    books.begin([Start(1, request_of(1, ask(50)), [2], 0, None, True)])
    books.receive(early)
    assert books.bound(10**6, is_full=False, row_tile=ROW_TILE)[0] >= 60 + 60, (
        "the second began after the report was sent"
    )


def test_only_a_few_sizes_are_chosen() -> None:
    sizes = set()
    spec = replace(SPEC, max_length=4096)
    for count in range(1, 2000, 7):
        books, request = Books(), request_of(0, ask(0, max_tokens=count), spec)
        books.begin([Start(0, request, [1] * 99, 0, None, True)])
        size = books.bound(10**6, is_full=False, row_tile=ROW_TILE)[0]
        assert count <= size <= max(ROW_TILE, 2 * (count + 4))
        sizes.add(size)
    assert len(sizes) <= 16


def test_a_report_has_a_row_per_field() -> None:
    slots, _ = running(ask(6), ask(3))
    assert Books().send(slots).numbers.shape == (len(FIELDS), 2)
