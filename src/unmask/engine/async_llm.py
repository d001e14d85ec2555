"""`AsyncLLM`: an `LLM` whose responses are awaited, so that many callers share its passes.

    llm = AsyncLLM(LLM("path/or/hub-id"))
    first, second = await asyncio.gather(llm.generate("1 + 1 ="), llm.generate("2 + 2 ="))
    async for piece in llm.stream("3 + 3 ="):
        print(piece, end="")

One thread owns the engine: requests are added and dropped between its passes. A response is the one that `LLM`
writes. A caller that is cancelled, or leaves a stream, drops its responses.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, TypeVar

from unmask.engine.events import Committed, Finished, Written
from unmask.engine.generation import Generation, by_prompt
from unmask.engine.llm import LLM, Asked, Conversations
from unmask.engine.llm_arguments import (
    conversations_of,
    each_response,
    one_of,
    prompts_of,
    sampling_of,
)
from unmask.engine.text_stream import TextStream
from unmask.sampling_params import SamplingParams
from unmask.types import Prompt

Event = Written | Committed | Finished[Generation] | BaseException
Value = TypeVar("Value")


class AsyncLLM:
    """An `LLM` for `asyncio`.

    Attributes:
        llm: the model with its engine; not to be called while responses are awaited.
    """

    def __init__(self, llm: LLM) -> None:
        """Prepare the thread of the engine; `llm` must be idle."""
        self.llm = llm
        self._thread = ThreadPoolExecutor(1, "unmask engine")
        self._queues: dict[int, asyncio.Queue[Event]] = {}
        self._task: asyncio.Task[None] | None = None

    async def generate(
        self, prompts: Any, sampling: Asked = None, *, sampling_params: Asked = None
    ) -> list[Generation]:
        """Return responses to texts or token ids; see `LLM.generate`.

        Raises:
            ValueError: as `LLM.generate`; the error of the first response that could not be written.
        """
        asked = one_of("sampling", sampling, "sampling_params", sampling_params)
        convert = partial(self.llm.to_prompt, "generate")
        return await self._write([partial(convert, one) for one in prompts_of(prompts)], asked)

    async def chat(
        self, conversations: Conversations, sampling: Asked = None, *, sampling_params: Asked = None
    ) -> list[Generation]:
        """Return responses to conversations; see `LLM.chat`. Raises as `generate`."""
        asked = one_of("sampling", sampling, "sampling_params", sampling_params)
        found = conversations_of(conversations)
        return await self._write([partial(self.llm.prompt, turns) for turns in found], asked)

    async def stream(
        self, prompt: Any, sampling: SamplingParams | None = None
    ) -> AsyncGenerator[str]:
        """Yield the text of one response as its blocks are finished; see `LLM.stream`, raises as it does."""
        self.llm.require_tokenizer()
        text = TextStream.of(self.llm.decode, sampling)
        add = partial(self.llm.add, prompt, sampling, "text")
        async with aclosing(self._events(add)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    if isinstance(event.result, ValueError):
                        raise event.result
                    piece = text.rest(event.result.text)
                else:
                    piece = text.add(event.token_ids)
                if piece:
                    yield piece

    async def close(self) -> None:
        """Drop all responses and end the thread."""
        await self._do(self.llm.abort)
        self._fail(RuntimeError("the AsyncLLM was closed before the response ended"))
        self._thread.shutdown()

    async def _write(
        self, prompts: Sequence[Callable[[], Prompt]], sampling: Asked
    ) -> list[Generation]:
        asked = sampling_of(sampling, len(prompts))
        found = [await self._do(convert) for convert in prompts]
        pairs = list(zip(*each_response(found, asked), strict=True))
        for pair in pairs:  # before any is queued
            await self._do(partial(self.llm.engine.resolve, *pair))
        ends = [self._end(partial(self.llm.engine.submit, *pair)) for pair in pairs]
        written = await _all(ends)
        return by_prompt(written, [one.n for one in asked])

    async def _end(self, add: Callable[[], int]) -> Generation:
        """Return the response of a request."""
        async with aclosing(self._events(add)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    if isinstance(event.result, ValueError):
                        raise event.result
                    return event.result
        raise AssertionError("a request ends with its response")

    async def _events(
        self, add: Callable[[], int]
    ) -> AsyncGenerator[Written | Committed | Finished[Generation]]:
        """Yield the events of a request up to its end, and drop it if the reader stops before."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        is_open = True
        try:
            await self._do(partial(self._add, add, queue))
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run())
            while is_open:
                event = await queue.get()
                is_open = isinstance(event, Written | Committed)
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            # After `add` on its thread, which ends also where its caller was cancelled.
            if is_open:
                await self._do(partial(self._drop, queue))

    async def _run(self) -> None:
        """Take passes while a request is open, and hand out their events."""
        while self._queues:
            try:
                events = await self._do(self.llm.tick)
            except BaseException as error:
                await self._do(self.llm.abort)  # the state may be inconsistent
                self._fail(error)
                return
            for event in events:
                is_end = isinstance(event, Finished)
                find = self._queues.pop if is_end else self._queues.get
                if queue := find(event.request_id, None):
                    queue.put_nowait(event)

    def _fail(self, error: BaseException) -> None:
        while self._queues:
            _, queue = self._queues.popitem()
            queue.put_nowait(error)

    def _add(self, add: Callable[[], int], queue: asyncio.Queue[Event]) -> None:
        """Add a request, on the engine's thread: its first event comes after that."""
        self._queues[add()] = queue

    def _drop(self, queue: asyncio.Queue[Event]) -> None:
        """Drop the request whose events a queue gets, on the engine's thread, if it has not ended."""
        for number in [number for number, own in list(self._queues.items()) if own is queue]:
            self._queues.pop(number, None)
            with suppress(ValueError):  # it has just ended
                self.llm.abort(number)

    async def _do(self, function: Callable[[], Value]) -> Value:
        """Call a function on the engine's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


async def _all(waiting: Sequence[Awaitable[Value]]) -> list[Value]:
    """Return the results in order, or raise the first error after all have ended; cancelling cancels all."""
    found = await asyncio.gather(*waiting, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return [one for one in found if not isinstance(one, BaseException)]
