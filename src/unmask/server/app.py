"""The HTTP application: routes, and how a job becomes an answer or a stream of chunks."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request, Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from unmask.engine.events import Committed, Finished, Written
from unmask.engine.llm import LLM, Generation
from unmask.server.engine_thread import EngineThread
from unmask.server.errors import ApiError
from unmask.server.guard import Guard, answer
from unmask.server.job import Batch, Job
from unmask.server.metrics import Metrics
from unmask.server.objects import CHAT, TEXT, Answer, Form, Json
from unmask.server.params import ServerParams
from unmask.server.playground import playground
from unmask.server.request import Asked, Prompts, chat_prompts, read_request, text_prompts
from unmask.server.weights import read_weights

KEEPALIVE_SECONDS = 15.0
# Beyond the time limit of a request, for a reader that takes nothing of the last chunks.
SEND_SECONDS = 10.0
CLIENT_LEFT = 499
# More than one, because the automaton of a schema takes seconds.
NUM_READERS = 4


@dataclass(frozen=True, slots=True)
class Server:
    """What the routes share.

    Attributes:
        engine: writes the responses.
        params: limits and defaults.
        readers: number of bodies that are read and encoded at a time, outside the event loop.
        created: time of the start, in seconds of the epoch.
    """

    engine: EngineThread
    params: ServerParams
    readers: CapacityLimiter
    created: int


def build_app(llm: LLM, params: ServerParams) -> FastAPI:
    """Return the application that serves a model; its engine starts with it.

    Args:
        llm: with an idle engine, which belongs to the server from now on.
        params: limits and defaults.

    Raises:
        ValueError: the model has no tokenizer.
    """
    llm.require_tokenizer()
    metrics = Metrics(llm.engine)
    engine = EngineThread(llm, params.max_waiting, metrics)
    server = Server(engine, params, CapacityLimiter(NUM_READERS), int(time.time()))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        engine.start()
        yield
        await run_sync(engine.stop)

    # Its own pages of documentation load scripts from elsewhere.
    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.state.server = server
    app.add_middleware(Guard, params=params, metrics=metrics)  # pyright: ignore[reportArgumentType]
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_bug)
    add = app.add_api_route
    add("/", playground(llm, params), methods=["GET"])
    add(
        "/v1/chat/completions",
        partial(_create, server, CHAT, "messages", chat_prompts),
        methods=["POST"],
    )
    add("/v1/completions", partial(_create, server, TEXT, "prompt", text_prompts), methods=["POST"])
    add("/v1/models", partial(_models, server), methods=["GET"])
    add("/v1/models/{name:path}", partial(_model, server), methods=["GET"])
    add("/health", partial(_health, server), methods=["GET"])
    add("/metrics", partial(_metrics, server), methods=["GET"])
    if params.updates_weights:
        add("/admin/update_weights", partial(_update_weights, server), methods=["POST"])
    return app


async def _create(
    server: Server, form: Form, field: str, prompts: Prompts, request: Request
) -> Response:
    """Answer a request for responses: at once, or as a stream."""
    engine, params, started = server.engine, server.params, time.monotonic()
    body = await request.body()
    read = partial(read_request, body, engine.llm, params, field, prompts, engine.max_open)
    asked: Asked = await run_sync(read, limiter=server.readers)
    job = Job(asked.asks, asked.options.streams, params.max_pending, started)
    writing = Answer(form, asked, engine.llm, params.model_name)
    engine.submit(job)
    if asked.options.stream:
        return JobStream(server, job, writing)
    try:
        return await _whole(server, job, writing, request)
    finally:
        engine.close(job)


async def _whole(server: Server, job: Job, writing: Answer, request: Request) -> Response:
    """Return the whole answer of a job; an empty one if its reader left."""
    collected = asyncio.create_task(_collect(server, job))
    left = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait((collected, left), return_when=asyncio.FIRST_COMPLETED)
        if not collected.done():
            return Response(status_code=CLIENT_LEFT)
        generations = collected.result()
    finally:
        collected.cancel()
        left.cancel()
    seconds = time.monotonic() - job.started
    return Response(to_json(writing.whole(generations, seconds)), media_type="application/json")


async def _collect(server: Server, job: Job) -> list[Generation]:
    """Return all responses of a job, in order."""
    found: dict[int, Generation] = {}
    try:
        end = job.started + server.params.request_seconds
        async with asyncio.timeout(max(0.0, end - time.monotonic())):
            while len(found) < len(job.asks):
                for index, event in await job.take():
                    if isinstance(event, Finished):
                        found[index] = _response(event.result)
    except TimeoutError:
        raise _too_late(server) from None
    return [found[index] for index in range(len(job.asks))]


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class JobStream(EventSourceResponse):
    """The chunks of a job as server-sent events; however it ends, the job is closed."""

    def __init__(self, server: Server, job: Job, writing: Answer) -> None:
        """Start a stream.

        Args:
            server: runs the job.
            job: already queued.
            writing: builds the chunks.
        """
        self._server, self._job = server, job
        super().__init__(_events(server, job, writing), headers={"Cache-Control": "no-cache"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, within the time limit."""
        try:
            async with asyncio.timeout(self._server.params.request_seconds + SEND_SECONDS):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            return  # the reader takes nothing: the connection is closed
        finally:
            self._server.engine.close(self._job)


async def _events(server: Server, job: Job, writing: Answer) -> AsyncIterator[bytes]:
    """Yield the chunks of a job, then `[DONE]`; an error is a chunk of its own."""
    try:
        for chunk in writing.openings():
            yield _event(chunk)
        async for events in _batches(server, job):
            if not events:
                yield KEEPALIVE_COMMENT
            for chunk in _chunks(job, writing, events):
                yield _event(chunk)
        for chunk in writing.last():
            yield _event(chunk)
    except ApiError as error:
        yield _event(error.body())
    yield format_sse_event(data_str="[DONE]")


def _chunks(job: Job, writing: Answer, events: Batch) -> Iterator[Json]:
    """Yield the chunks of events: tokens of a response that came together are one piece of text.

    Raises:
        ApiError: a response could not be written.
    """
    fresh: dict[int, list[int]] = {}
    for index, event in events:
        if isinstance(event, Written):
            yield writing.written(index, event)
        elif isinstance(event, Committed):
            fresh.setdefault(index, []).extend(event.token_ids)
    for index, token_ids in fresh.items():
        if chunk := writing.committed(index, token_ids):
            yield chunk
    seconds = time.monotonic() - job.started
    for index, event in events:
        if isinstance(event, Finished):
            yield from writing.finished(index, _response(event.result), seconds)


async def _batches(server: Server, job: Job) -> AsyncIterator[Batch]:
    """Yield the events of a job as they come; nothing for `KEEPALIVE_SECONDS` is an empty batch.

    Raises:
        ApiError: the job has failed, or the time of its request is over.
    """
    end = job.started + server.params.request_seconds
    while job.num_open or job.has_events:
        try:
            async with asyncio.timeout(min(KEEPALIVE_SECONDS, end - time.monotonic())):
                events = await job.take()
        except TimeoutError:
            if time.monotonic() >= end:
                raise _too_late(server) from None
            events = []
        yield events


def _event(chunk: Json) -> bytes:
    return format_sse_event(data_str=to_json(chunk).decode())


def _response(result: Generation | ValueError) -> Generation:
    """Return a response.

    Raises:
        ApiError: it could not be written.
    """
    if isinstance(result, ValueError):
        raise ApiError(500, str(result), code="engine_error")
    return result


def _too_late(server: Server) -> ApiError:
    limit = server.params.request_seconds
    return ApiError(504, f"the request took longer than {limit:g} s, the limit", code="timeout")


async def _models(server: Server) -> Json:
    return {"object": "list", "data": [_model_object(server)]}


async def _model(server: Server, name: str) -> Json:
    if name != server.params.model_name:
        raise ApiError(404, f"model = {name!r:.200}: not served here", "model", "model_not_found")
    return _model_object(server)


def _model_object(server: Server) -> Json:
    return {
        "id": server.params.model_name,
        "object": "model",
        "created": server.created,
        "owned_by": "unmask",
        "max_model_len": server.engine.llm.model.spec.max_length,
    }


async def _health(server: Server) -> Json:
    if not server.engine.is_alive:
        raise ApiError(503, "the engine has stopped", code="engine_stopped")
    return {"status": "ok", "policy_version": server.engine.llm.engine.policy_version}


async def _metrics(server: Server) -> Response:
    return Response(server.engine.metrics.text(), media_type="text/plain; version=0.0.4")


async def _update_weights(server: Server, request: Request) -> Json:
    read = partial(read_weights, await request.body(), server.engine.llm)
    weights, version = await run_sync(read)
    try:
        return {"policy_version": await server.engine.update_weights(weights, version)}
    except ValueError as error:
        raise ApiError(400, str(error), code="invalid_value") from None


async def _on_api_error(_: Request, error: Any) -> Response:
    return answer(error)


async def _on_http_error(_: Request, error: Any) -> Response:
    """Answer a path or a method that does not exist."""
    return JSONResponse(ApiError(error.status_code, str(error.detail)).body(), error.status_code)


async def _on_bug(_: Request, error: Any) -> Response:
    return answer(ApiError(500, f"{type(error).__name__}: a bug of the server; its log has more"))
