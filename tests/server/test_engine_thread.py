"""The engine's thread: full queues, slow readers, broken responses, failures, and new weights."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import openai
import pytest
import torch

from tests.server.served import HTTP, NAME, Served, served
from tests.toy import toy_checkpoint
from unmask.engine.events import Finished, Streams
from unmask.engine.llm import LLM
from unmask.engine.options import EngineParams
from unmask.sampling_params import SamplingParams
from unmask.server.engine_thread import EngineThread
from unmask.server.errors import ApiError
from unmask.server.job import Ask, Job
from unmask.server.metrics import Metrics
from unmask.types import Prompt

BODY: dict[str, Any] = {"model": NAME, "prompt": "1+2=", "max_tokens": 12, "seed": 3}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("toy")
    params = EngineParams(max_sequences=2)
    options = {"max_waiting": 1, "api_key": "secret", "updates_weights": True}
    with served(directory, params, **options) as running:
        yield running


def toy_thread(directory: Path, max_waiting: int = 8) -> EngineThread:
    llm = LLM(toy_checkpoint(directory))
    return EngineThread(llm, max_waiting, Metrics(llm.engine))


def job_of(count: int = 1, streams: Streams | None = "text", max_pending: int = 100) -> Job:
    sampling = SamplingParams(max_tokens=100, stop_token_ids=())
    return Job([Ask(Prompt("serve", 0, (), (5,)), sampling)] * count, streams, max_pending)


def test_a_full_queue_is_answered_with_429(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    client, released = server.client(), Event()
    tick = server.engine.llm.tick

    def held() -> Any:
        released.wait()
        return tick()

    monkeypatch.setattr(server.engine.llm, "tick", held)
    with client.completions.create(n=3, stream=True, **BODY) as stream:
        with pytest.raises(openai.RateLimitError, match="the queue is full") as caught:
            client.completions.create(**BODY)
        released.set()
        assert list(stream)
    assert caught.value.response.headers["retry-after"] == "1"
    assert caught.value.code == "queue_full"
    server.wait_until_idle()
    assert client.completions.create(**BODY).choices


def test_more_responses_than_the_server_takes_are_refused(server: Served) -> None:
    with pytest.raises(openai.BadRequestError, match="at most") as caught:
        server.client().completions.create(n=4, **BODY)
    assert caught.value.param == "n"


def test_a_response_with_broken_logits_is_an_error_of_its_own(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = server.engine.llm
    tick = llm.tick

    def broken() -> Any:
        return [
            Finished(event.request_id, ValueError("its logits are not finite"))
            if isinstance(event, Finished)
            else event
            for event in tick()
        ]

    monkeypatch.setattr(llm, "tick", broken)
    client = server.client()
    with pytest.raises(openai.InternalServerError, match="not finite"):
        client.completions.create(**BODY)
    with pytest.raises(openai.APIError, match="not finite"):
        list(client.completions.create(stream=True, **BODY))
    monkeypatch.undo()
    assert (
        client.completions.create(**BODY).choices[0].text
        == server.offline.generate(["1+2="], SamplingParams(max_tokens=12, seed=3))[0].text
    )


@pytest.mark.parametrize("part", ["tick", "submit"])
def test_the_engine_outlives_an_exception(
    part: str, server: Served, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> Any:
        raise RuntimeError("out of memory at 0x1234")

    monkeypatch.setattr(server.engine.llm.engine, part, fail)
    client = server.client()
    with pytest.raises(openai.InternalServerError, match="the engine failed") as caught:
        client.completions.create(**BODY)
    assert "0x1234" not in str(caught.value) and "0x1234" in capfd.readouterr().err
    monkeypatch.undo()
    assert client.completions.create(**BODY).choices
    assert server.num_leaked_pages() == 0


def test_weights_are_updated_between_responses(server: Served, tmp_path: Path) -> None:
    client = server.client()
    before = client.completions.create(**BODY).choices[0].text
    headers = {"authorization": "Bearer secret"}
    address = f"{server.url}/admin/update_weights"
    other = toy_checkpoint(tmp_path / "other", seed=9, max_length=256)
    with client.completions.create(
        stream=True, **{**BODY, "max_tokens": 100}, extra_body={"stop_token_ids": []}
    ) as stream:
        next(iter(stream))
        found = HTTP.post(address, json={"path": str(other), "version": 7}, headers=headers)
        assert found.json() == {"policy_version": 7}
        last: Any = list(stream)[-1].choices[0]
    assert last.meta_info["policy_version"] == 0
    after: Any = client.completions.create(**BODY).choices[0]
    (expected,) = LLM(other).generate(["1+2="], SamplingParams(max_tokens=12, seed=3))
    assert after.text == expected.text != before
    assert after.meta_info["policy_version"] == 7
    back = {"path": str(server.offline.model.source), "version": 0}
    assert HTTP.post(address, json=back, headers=headers).status_code == 200
    assert client.completions.create(**BODY).choices[0].text == before
    smaller = toy_checkpoint(tmp_path / "smaller", width=16)
    found = HTTP.post(address, json={"path": str(smaller)}, headers=headers)
    assert found.status_code == 400 and "another architecture" in found.text


def test_a_reader_that_takes_nothing_loses_its_request(tmp_path: Path) -> None:
    async def run() -> None:
        thread = toy_thread(tmp_path)
        thread.start()
        slow, other = job_of(max_pending=3), job_of()
        thread.submit(slow)
        thread.submit(other)
        taken = 0
        while other.num_open or other.has_events:
            taken += len(await other.take())
        assert taken > 4  # it went on, and did not wait for the slow one
        with pytest.raises(ApiError, match="too slowly"):
            await slow.take()
        assert slow.is_closed and thread.num_open == 0
        await asyncio.to_thread(thread.stop)
        assert thread.llm.engine.is_idle

    asyncio.run(run())


def test_a_job_that_is_closed_frees_its_pages_and_its_place(tmp_path: Path) -> None:
    async def run() -> None:
        thread = toy_thread(tmp_path, max_waiting=0)
        thread.start()
        job = job_of(count=thread.max_open)
        thread.submit(job)
        await job.take()
        with pytest.raises(ApiError, match="full"):
            thread.submit(job_of())
        thread.close(job)
        thread.close(job)  # a second time does nothing
        again = job_of(streams=None)
        thread.submit(again)
        ((_, event),) = await again.take()
        assert isinstance(event, Finished)
        await asyncio.to_thread(thread.stop)
        assert thread.llm.engine.load.pages == 0
        with pytest.raises(ApiError, match="stopped"):
            thread.submit(job_of())

    asyncio.run(run())


def test_the_time_limit_ends_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path, request_seconds=0.2) as running:
        tick = running.engine.llm.tick

        def slowly() -> Any:
            time.sleep(0.05)
            return tick()

        monkeypatch.setattr(running.engine.llm, "tick", slowly)
        client = running.client()
        body = {**BODY, "max_tokens": 100, "extra_body": {"stop_token_ids": []}}
        with pytest.raises(openai.APIStatusError, match="longer than") as caught:
            client.completions.create(**body)
        assert caught.value.status_code == 504
        with pytest.raises(openai.APIError, match="longer than"):
            list(client.completions.create(stream=True, **body))
        assert running.num_leaked_pages() == 0


def test_updates_of_weights_that_do_not_fit_leave_the_engine(tmp_path: Path) -> None:
    async def run() -> None:
        thread = toy_thread(tmp_path)
        thread.start()
        with pytest.raises(ValueError, match="no parameter"):
            await thread.update_weights({"nothing": torch.zeros(1)}, None)
        engine = thread.llm.engine
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "update_weights", lambda *_: 1 / 0)
            with pytest.raises(ValueError, match="the engine failed"):
                await thread.update_weights({}, 5)
        assert await thread.update_weights({}, 5) == 5
        await asyncio.to_thread(thread.stop)

    asyncio.run(run())
