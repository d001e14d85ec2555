"""First come, first served; a page each, used again when it is free."""

from tests.engine.writers import prompt_of
from unmask.engine.pages import SCRAP
from unmask.engine.request import Request
from unmask.engine.scheduler import Scheduler
from unmask.types import SamplingParams


def queue(num_pages: int, count: int) -> Scheduler:
    scheduler = Scheduler(num_pages)
    for number in range(count):
        scheduler.add(Request(number, prompt_of([]), SamplingParams(block_size=4)))
    return scheduler


def admit(scheduler: Scheduler) -> list[Request]:
    chosen = scheduler.choose()
    scheduler.admit(chosen)
    return chosen


def numbers(requests: list[Request]) -> list[int]:
    return [request.number for request in requests]


def test_requests_run_in_the_order_they_came() -> None:
    scheduler = queue(2, 5)
    assert numbers(admit(scheduler)) == [0, 1]
    assert admit(scheduler) == []
    assert numbers(scheduler.finish([1])) == [1]
    assert numbers(admit(scheduler)) == [2]
    assert numbers(scheduler.running) == [0, 2]
    assert numbers(list(scheduler.waiting)) == [3, 4]


def test_running_requests_share_no_page_and_none_is_scrap() -> None:
    scheduler = queue(4, 50)
    most = 0
    while scheduler.waiting or scheduler.running:
        admit(scheduler)
        pages = [request.page for request in scheduler.running]
        assert len(set(pages)) == len(pages) <= 4 and SCRAP not in pages
        most = max(most, *pages)
        scheduler.finish(list(range(0, len(pages), 2)))
    assert most == 4


def test_a_small_batch_uses_the_first_pages() -> None:
    assert sorted(request.page for request in queue(100, 3).choose()) == [1, 2, 3]


def test_several_requests_finish_at_once() -> None:
    scheduler = queue(5, 5)
    admit(scheduler)
    assert numbers(scheduler.finish([0, 2, 3])) == [0, 2, 3]
    assert numbers(scheduler.running) == [1, 4]


def test_choosing_changes_nothing() -> None:
    scheduler = queue(2, 3)
    assert scheduler.choose() == scheduler.choose() == admit(scheduler)
    assert numbers(scheduler.running) == [0, 1]
