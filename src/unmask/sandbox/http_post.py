"""HTTP POST with one limit from connecting to the last byte of the reply, by `httpx2`.

The timeouts of `httpx2` hold for a single read, so a server that sends a byte now and then never
exceeds them: not in the status line, not in the headers, not in the body. Here the whole exchange is
one asyncio task, which `asyncio.timeout` cancels wherever it stands.

Every status is a reply, redirects included: following one would carry the request, and a key in its
headers, to an address that the user never gave.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from ssl import SSLContext
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # imported by the first request only: a run without a judge needs no HTTP
    from httpx2 import AsyncClient

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers and body of a reply; the body of an error may be incomplete."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class LargeReplyError(ValueError):
    """A reply is larger than the limit given for it."""


def run_with_client(function: "Callable[[AsyncClient], Awaitable[Result]]") -> Result:
    """Run an asynchronous function with an HTTP client, and return its result.

    The event loop has a thread of its own, because the caller's thread may already run one (a
    notebook), and because a signal then ends the wait at once: the requests are cancelled.
    """
    from anyio.from_thread import start_blocking_portal
    from httpx2 import AsyncClient, Limits

    async def run() -> Result:
        unlimited = Limits(max_connections=None)  # callers bound how many requests run at once
        async with AsyncClient(verify=_tls_context(), timeout=None, limits=unlimited) as client:
            return await function(client)

    with start_blocking_portal() as portal:
        return portal.call(run)


@cache
def _tls_context() -> SSLContext:
    from httpx2 import create_ssl_context

    return create_ssl_context()  # 60 ms each time


async def post(
    client: "AsyncClient",
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    timeout_s: float,
    max_bytes: int,
) -> Reply:
    """Send one request and return the reply.

    Args:
        client: of `run_with_client`.
        url: the address.
        body: the body of the request.
        headers: added to those that HTTP requires.
        timeout_s: seconds from now to the last byte of the reply.
        max_bytes: the largest body of a reply.

    Raises:
        TimeoutError: there is no whole reply within `timeout_s`.
        ConnectionError: the connection fails, ends early, or carries something other than HTTP.
        LargeReplyError: the body is larger than `max_bytes`.
    """
    from httpx2 import HTTPError, InvalidURL

    # A compressed body could be small on the wire and large in memory.
    headers = {"Accept-Encoding": "identity", **headers}
    try:
        async with (
            asyncio.timeout(timeout_s),
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            received = bytearray()
            try:
                async for chunk in response.aiter_raw():
                    received += chunk
                    if len(received) > max_bytes:
                        raise LargeReplyError(f"a reply of more than {max_bytes} bytes")
            except HTTPError:
                if response.status_code < 400:
                    raise
            return Reply(response.status_code, response.headers, bytes(received))
    except TimeoutError:
        raise TimeoutError(f"no reply in {timeout_s:g} s") from None
    except (HTTPError, InvalidURL) as error:
        cause: BaseException = error
        while earlier := cause.__cause__ or cause.__context__:
            cause = earlier  # the first one names the reason, `ConnectionRefusedError` for example
        raise ConnectionError(f"{type(cause).__name__}: {cause}") from error
