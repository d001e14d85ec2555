"""A job holds the events that its reader has not taken."""

import asyncio

import pytest

from unmask.engine.events import Committed, Finished
from unmask.sampling_params import SamplingParams
from unmask.server.errors import ApiError
from unmask.server.job import Ask, Job
from unmask.types import Prompt

ASK = Ask(Prompt("serve", 0, (), (1, 2)), SamplingParams())
ERROR = Finished(0, ValueError("broken"))


def test_all_events_are_taken_at_once_in_order() -> None:
    async def run() -> None:
        job = Job([ASK] * 2, "text", 10)
        events = [(0, Committed(4, (1,))), (1, Committed(5, (2,))), (0, ERROR)]
        assert all(job.put(*event) for event in events)
        assert job.has_events and job.num_open == 1
        assert await job.take() == events
        assert not job.has_events
        waits = asyncio.create_task(job.take())
        await asyncio.sleep(0)
        assert not waits.done()
        job.put(1, ERROR)
        assert await waits == [(1, ERROR)] and job.num_open == 0

    asyncio.run(run())


def test_the_bound_counts_the_events_of_all_responses() -> None:
    async def run() -> None:
        job = Job([ASK] * 2, "text", 1)
        assert [job.put(0, Committed(0, (1,))) for _ in range(3)] == [True, True, False]

    asyncio.run(run())


def test_a_failed_job_has_its_error_only() -> None:
    async def run() -> None:
        job = Job([ASK], "text", 1)
        job.put(0, ERROR)
        job.fail(ApiError(503, "later"))
        with pytest.raises(ApiError, match="later"):
            await job.take()

    asyncio.run(run())
