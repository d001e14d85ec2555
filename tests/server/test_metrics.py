"""Metrics count events of jobs and read the engine's load."""

import asyncio

from tests.toy import toy_model
from unmask.engine.engine import Engine
from unmask.engine.events import Committed, Finished
from unmask.engine.llm import Generation
from unmask.sampling_params import SamplingParams
from unmask.server.job import Ask, Job
from unmask.server.metrics import Metrics
from unmask.types import Prompt

GENERATION = Generation(
    "ab", (3, 4), (1, 1), (-1.0, -1.0), "stop", 1, (-1.0, -1.0), (0.0, 0.0), 0, str, (), str
)


def values(metrics: Metrics) -> dict[str, float]:
    lines = metrics.text().decode().splitlines()
    found = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in found}


def test_events_are_counted() -> None:
    async def run() -> None:
        metrics = Metrics(Engine(toy_model()))
        job = Job([Ask(Prompt("serve", 0, (), (1, 2, 3)), SamplingParams())] * 2, "text", 10)
        metrics.observe(job, 0, Committed(0, (3,)))
        metrics.observe(job, 0, Finished(0, GENERATION))
        metrics.observe(job, 1, Finished(1, ValueError("broken")))
        metrics.aborted(2)
        metrics.ticked()
        metrics.answered("/v1/completions", 200)
        found = values(metrics)
        assert found["unmask_prompt_tokens_total"] == 3
        assert found["unmask_response_tokens_total"] == 2
        assert found["unmask_forward_passes_total"] == 1
        assert found["unmask_tokens_per_forward_sum"] == 2
        assert found["unmask_first_block_seconds_count"] == 2
        assert found["unmask_response_seconds_count"] == 1
        for finish, count in (("stop", 1), ("error", 1), ("aborted", 2)):
            assert found[f'unmask_responses_total{{finish="{finish}"}}'] == count

    asyncio.run(run())


def test_gauges_are_the_engine_s_load() -> None:
    engine = Engine(toy_model())
    metrics = Metrics(engine)
    for _ in range(3):
        engine.submit(Prompt("t", 0, (), (5,)), SamplingParams(max_tokens=9))
    assert values(metrics)["unmask_responses_waiting"] == 3
    engine.tick()
    found = values(metrics)
    assert found["unmask_responses_waiting"] == 0
    assert found["unmask_responses_running"] == found["unmask_pages_used"] == 3
    engine.abort()
    assert values(metrics)["unmask_pages_used"] == 0
