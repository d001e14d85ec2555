"""First come, first served; no page is promised twice, and every request ends."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.states import request_of
from tests.toy import toy_model
from unmask.engine.pages import PagePool, num_pages
from unmask.engine.prefix_cache import NO_PREFIX
from unmask.engine.request import Request, with_twin
from unmask.engine.scheduler import Scheduler, Start
from unmask.models.attention import KEY_CHUNK
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt

MODEL = toy_model(max_length=1024)


def scheduler(indices: int = 4, pages: int | None = None) -> Scheduler:
    most = None if pages is None else pages * KEY_CHUNK
    return Scheduler(PagePool(MODEL, most), indices)


def queue(
    schedule: Scheduler,
    *prompts: list[int],
    max_tokens: int = 8,
    first: int = 0,
    shares: bool = True,
) -> None:
    for number, ids in enumerate(prompts, first):
        request = request_of(number, (ids, SamplingParams(max_tokens=max_tokens)), MODEL.spec)
        schedule.add(request if shares else replace(request, prefix=NO_PREFIX))


def begun(starts: list[Start]) -> list[int]:
    return [start.request.id for start in starts]


def available(schedule: Scheduler) -> int:
    found = schedule.pool.num_available()
    assert found is not None
    return found


def test_requests_run_in_the_order_they_came() -> None:
    schedule = scheduler(2)
    queue(schedule, *[[5]] * 5)
    starts = schedule.choose({})
    assert begun(starts) == [0, 1] and schedule.choose({}) == []
    schedule.finish([starts[1].index])
    assert [run.request.id for run in schedule.running.values()] == [0]
    (next_one,) = schedule.choose({})
    assert (next_one.request.id, next_one.index) == (2, starts[1].index)
    assert [request.id for request in schedule.waiting] == [3, 4]


def test_a_small_batch_uses_the_first_indices_and_pages() -> None:
    schedule = scheduler(100)
    queue(schedule, *[[5]] * 3)
    starts = schedule.choose({})
    assert [start.index for start in starts] == [0, 1, 2]
    assert sorted(page for start in starts for page in start.pages) == [1, 2, 3]


def test_admission_reserves_a_page_per_running_sequence() -> None:
    """The first takes one of three pages; a second of two more would leave it nothing to grow into."""
    schedule = scheduler(4, pages=3)
    queue(schedule, [5], [6] * 70)
    assert begun(schedule.choose({})) == [0] and available(schedule) == 2
    schedule.finish([0])
    assert begun(schedule.choose({})) == [1]


def test_no_request_overtakes_one_that_waits_for_pages() -> None:
    schedule = scheduler(4, pages=3)
    queue(schedule, [5], [6] * 150, [7])
    assert begun(schedule.choose({})) == [0]
    assert [request.id for request in schedule.waiting] == [1, 2]


def test_requests_with_one_prompt_wait_until_the_first_has_fed_it() -> None:
    schedule = scheduler()
    queue(schedule, [5] * 70, [5] * 71, [6])
    assert begun(schedule.choose({})) == [0, 2], "another prompt overtakes"
    assert schedule.prefilling() == [0]
    schedule.index_prefixes([0])
    (start,) = schedule.choose({})
    assert (start.request.id, start.cached) == (1, 68)
    assert start.pages[0] == schedule.running[0].pages[0], "the whole page is shared"
    assert start.copied == (schedule.running[0].pages[1], start.pages[1]), "the other one copied"


def test_requests_wait_for_their_common_prefix_only() -> None:
    """Eight questions behind one system prompt, all at once."""
    schedule = scheduler(9)
    system = [5] * 128
    queue(schedule, *[system + [number] * 40 for number in range(7, 15)], [6] * 70)
    assert begun(schedule.choose({})) == [0, 8]
    schedule.index_prefixes([0])
    starts = schedule.choose({})
    assert begun(starts) == [1, 2, 3, 4, 5, 6, 7] and {s.cached for s in starts} == {128}


def test_cached_pages_need_no_room() -> None:
    """Of four answers behind nine pages each takes one of its own."""
    schedule = scheduler(4, pages=16)
    queue(schedule, *[[5] * 512] * 4)
    schedule.choose({})
    schedule.index_prefixes([0])
    assert begun(schedule.choose({})) == [1, 2, 3]


def test_room_is_not_made_of_a_page_that_waits_to_be_copied() -> None:
    schedule = scheduler(4, pages=6)
    queue(schedule, [5] * 70, first=0)
    schedule.choose({})
    schedule.index_prefixes([0])
    schedule.finish([0])  # both pages of the prompt are the index's alone
    queue(schedule, [5] * 70, [6] * 200, first=1)
    (start,) = schedule.choose({})
    assert start.copied is not None and start.copied[0] not in schedule.pool._free


@pytest.mark.parametrize("how", ["finish", "drop", "interrupt", "withdraw"])
def test_no_request_waits_for_a_prompt_that_is_not_being_fed(how: str) -> None:
    schedule = scheduler(4, pages=6)
    queue(schedule, [5] * 70, [5] * 70)
    starts = schedule.choose({})
    assert begun(starts) == [0]
    if how == "finish":
        schedule.finish([0])
    elif how == "drop":
        assert schedule.drop(0) == [0]
    elif how == "interrupt":
        schedule._preempt(0)
    else:
        schedule.withdraw(starts)
    lengths = dict.fromkeys(schedule.preempted(), 76)
    assert (0 if how in ("interrupt", "withdraw") else 1) in begun(schedule.choose(lengths))


def test_without_sharing_no_request_waits() -> None:
    schedule = scheduler(4)
    queue(schedule, *[[5] * 70] * 3, shares=False)
    starts = schedule.choose({})
    assert begun(starts) == [0, 1, 2] and not any(start.cached for start in starts)
    assert len({page for start in starts for page in start.pages}) == 6


def test_what_was_chosen_can_be_put_back() -> None:
    """Where laying out the state failed: the same requests wait, in the same order, on no page."""
    schedule = scheduler(4, pages=8)
    queue(schedule, [5] * 70, [6], [7])
    before = available(schedule)
    starts = schedule.choose({})
    schedule.withdraw(starts)
    assert [request.id for request in schedule.waiting] == [0, 1, 2]
    assert available(schedule) == before and not schedule.running
    assert begun(schedule.choose({})) == begun(starts)


def test_the_youngest_gives_its_pages_to_the_oldest_and_keeps_its_index() -> None:
    schedule = scheduler(4, pages=3)
    queue(schedule, [5] * 40, [6] * 40, max_tokens=100)
    assert begun(schedule.choose({})) == [0, 1] and available(schedule) == 1
    grown, stopped = schedule.grow({0: 65, 1: 65})
    assert grown == {0: schedule.running[0].pages} and stopped == [1]
    assert schedule.preempted() == [1] and schedule.running[1].pages == []
    assert schedule.choose({1: 130}) == []
    schedule.finish([0])
    (again,) = schedule.choose({1: 130})
    assert (again.index, again.is_new, again.cached) == (1, False, 0) and len(again.pages) == 3


def test_shared_prompts_are_released_before_a_sequence_is_preempted() -> None:
    schedule = scheduler(4, pages=4)
    queue(schedule, [5] * 70)
    schedule.choose({})
    schedule.index_prefixes([0])
    schedule.finish([0])
    assert available(schedule) == 2, "the index owns them"
    queue(schedule, [6] * 40, [7] * 40, first=1, max_tokens=100)
    assert begun(schedule.choose({})) == [1, 2]
    grown, stopped = schedule.grow({0: 65, 1: 65})
    assert sorted(grown) == [0, 1] and not stopped


def test_a_request_can_be_dropped_wherever_it_is() -> None:
    schedule = scheduler(1, pages=4)
    queue(schedule, [5], [6])
    schedule.choose({})
    assert schedule.drop(1) == [] and not schedule.waiting
    assert schedule.drop(0) == [0] and available(schedule) == 4
    with pytest.raises(ValueError, match="request 0: neither waiting nor running"):
        schedule.drop(0)


def guided(number: int) -> Request:
    """Return a request of two sequences of one page each."""
    params = SamplingParams(max_tokens=8, block_size=8, guidance=1.5, stop_token_ids=())
    return with_twin(Request(number, Prompt("toy", 0, (), (5, 6)), params, is_full=True), 1)


def test_both_sequences_of_a_guided_request_start_and_end_together() -> None:
    schedule = scheduler(5, pages=8)
    for number in range(3):
        schedule.add(guided(number))
    starts = schedule.choose({})
    assert begun(starts) == [0, 0, 1, 1]  # one index is free, and two are needed
    assert [start.request.is_twin for start in starts] == [False, True, False, True]
    assert schedule.twins == {starts[1].index: starts[0].index, starts[3].index: starts[2].index}
    assert starts[1].request.token_ids == (1, 1) and schedule.choose({}) == []
    assert schedule.finish([starts[0].index]) == [starts[1].index]
    assert begun(schedule.choose({})) == [2, 2] and available(schedule) == 4
    assert len(schedule.drop(1)) == 2 and available(schedule) == 6
    schedule.clear()
    assert available(schedule) == 8 and not schedule.twins


def test_a_guided_request_waits_for_the_pages_of_both_sequences() -> None:
    schedule = scheduler(4, pages=3)
    schedule.add(guided(0))
    schedule.add(guided(1))
    starts = schedule.choose({})
    assert begun(starts) == [0, 0]
    schedule.withdraw(starts)
    assert [request.id for request in schedule.waiting] == [0, 1] and available(schedule) == 3
    assert begun(schedule.choose({})) == [0, 0]


def test_clear_frees_every_page() -> None:
    schedule = scheduler(2, pages=8)
    queue(schedule, [5] * 70, [6], [7])
    schedule.choose({})
    schedule.index_prefixes([0])
    schedule.clear()
    assert available(schedule) == 8 and not schedule.running and not schedule.waiting


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(4, 10), st.booleans())
def test_every_request_ends_and_no_page_has_two_writers(
    seed: int, indices: int, pages: int, shares: bool
) -> None:
    """A small world: each running request grows by a page now and then, and ends at its length."""
    rng = random.Random(seed)
    schedule = scheduler(indices, pages)
    lengths: dict[int, int] = {}
    prompts = [[rng.choice([5, 6])] * rng.choice([3, 40, 70, 140]) for _ in range(9)]
    queue(schedule, *prompts, max_tokens=pages * KEY_CHUNK - 144, shares=shares)
    for _ in range(400):
        wanted = {index: lengths[index] for index in schedule.preempted()}
        for start in schedule.choose(wanted):
            lengths[start.index] = wanted.get(start.index, start.request.first_length)
            assert num_pages(lengths[start.index]) == len(start.pages)
        runs = {index: run for index, run in schedule.running.items() if run.pages}
        assert runs or not schedule.running, "a sequence goes on"
        shared = {page for p in schedule.index._pages.values() for page in [p]}
        written = [page for run in runs.values() for page in run.pages if page not in shared]
        assert len(set(written)) == len(written)
        schedule.index_prefixes(schedule.prefilling())
        done = [index for index in runs if lengths[index] >= runs[index].request.max_length]
        for index in done:
            lengths.pop(index)
        schedule.finish(done)
        for index in runs.keys() - set(done):
            longest = runs[index].request.max_length
            lengths[index] = min(lengths[index] + rng.choice([0, 40, 64]), longest)
        grown, stopped = schedule.grow(
            {index: lengths[index] for index, run in schedule.running.items() if run.pages}
        )
        assert not grown.keys() & set(stopped)
        if not schedule.running and not schedule.waiting:
            break
    assert not schedule.running and not schedule.waiting, "every request ends"
    schedule.clear()
    assert available(schedule) == pages
