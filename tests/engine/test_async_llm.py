"""`AsyncLLM`: callers share passes, and each gets what `LLM` writes."""

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.toy import toy_checkpoint
from unmask import LLM, AsyncLLM, SamplingParams

PARAMS = SamplingParams(max_tokens=16, seed=3, stop_token_ids=(), temperature=3.0)
TURN = {"role": "user", "content": "1+"}


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return LLM(toy_checkpoint(tmp_path_factory.mktemp("toy")))


@pytest.fixture
def llm(offline: LLM) -> AsyncLLM:
    return AsyncLLM(offline)


def finished(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 600))


def test_callers_share_passes_and_get_the_offline_responses(offline: LLM, llm: AsyncLLM) -> None:
    several = replace(PARAMS, n=2)
    expected = [offline.generate(["1+", [5, 6]], several), offline.chat([TURN], PARAMS)]
    alone = [offline.generate(["7"], PARAMS), offline.generate(["8"], PARAMS)]
    passes, tick = 0, offline.tick

    def counted() -> Any:
        nonlocal passes
        passes += 1
        return tick()

    offline.tick = counted  # type: ignore[method-assign]

    async def work() -> Any:
        return await asyncio.gather(
            llm.generate(["1+", [5, 6]], sampling_params=several),
            llm.chat([TURN], PARAMS),
            *(llm.generate(text, PARAMS) for text in ("7", "8")),
        )

    try:
        assert finished(work()) == [*expected, *alone]
    finally:
        del offline.tick
    written = [one for result in (*expected, *alone) for each in result for one in each.outputs]
    assert passes < sum(one.num_forwards for one in written) / 2
    assert offline.engine.is_idle


def test_streamed_pieces_are_the_text(offline: LLM, llm: AsyncLLM) -> None:
    (whole,) = offline.generate(["1+"], PARAMS)
    for stop in ((), (whole.text[9:11],)):
        asked = replace(PARAMS, stop=stop)
        (expected,) = offline.generate(["1+"], asked)

        async def work(asked: SamplingParams = asked) -> list[str]:
            return [piece async for piece in llm.stream("1+", asked)]

        pieces = finished(work())
        assert "".join(pieces) == expected.text and len(pieces) > 1


def test_a_reader_that_leaves_and_a_caller_that_is_cancelled_drop_their_responses(
    offline: LLM, llm: AsyncLLM
) -> None:
    (expected,) = offline.generate(["1+"], PARAMS)
    long = replace(PARAMS, max_tokens=100)

    async def work() -> Any:
        stream = llm.stream("2+", long)
        await anext(stream)
        await stream.aclose()
        task = asyncio.create_task(llm.generate(["3+", "4+"], long))
        kept = asyncio.create_task(llm.generate(["1+"], PARAMS))
        while not offline.engine.load.running:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await kept

    assert finished(work()) == [expected]
    assert offline.engine.is_idle


def test_a_caller_that_is_cancelled_while_its_request_is_added_drops_it(
    offline: LLM, llm: AsyncLLM
) -> None:
    begun, goes_on, add = threading.Event(), threading.Event(), offline.add

    def slow(*given: Any) -> int:
        begun.set()
        goes_on.wait(600)
        return add(*given)

    async def work() -> None:
        reader = asyncio.ensure_future(anext(llm.stream("1+", PARAMS)))
        await asyncio.to_thread(begun.wait, 600)
        reader.cancel()
        await asyncio.sleep(0)
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await reader

    offline.add = slow  # type: ignore[method-assign]
    try:
        finished(work())
    finally:
        del offline.add
    assert offline.engine.is_idle


def test_errors_are_raised_and_leave_nothing_behind(tmp_path: Path, llm: AsyncLLM) -> None:
    with pytest.raises(ValueError, match="token id 99"):
        finished(llm.generate([[5], [99]], PARAMS))
    assert llm.llm.engine.is_idle
    broken = AsyncLLM(LLM(toy_checkpoint(tmp_path)))
    with torch.no_grad():
        broken.llm.model.head.projection.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="the model's logits are not numbers"):
        finished(broken.generate(["1+"], PARAMS))

    async def close() -> None:
        task = asyncio.create_task(llm.generate(["1+"], replace(PARAMS, max_tokens=100)))
        while not llm.llm.engine.load.running:
            await asyncio.sleep(0)
        await llm.close()
        with pytest.raises(RuntimeError, match="closed before the response ended"):
            await task

    finished(close())
    assert llm.llm.engine.is_idle


def test_an_exception_of_a_pass_reaches_every_caller(offline: LLM, llm: AsyncLLM) -> None:
    def fail() -> Any:
        raise MemoryError("no memory")

    offline.tick = fail  # type: ignore[method-assign]

    async def work() -> Any:
        calls = (llm.generate([text], PARAMS) for text in ("1", "2"))
        return await asyncio.gather(*calls, return_exceptions=True)

    try:
        assert [type(one) for one in finished(work())] == [MemoryError, MemoryError]
    finally:
        del offline.tick
    assert offline.engine.is_idle
