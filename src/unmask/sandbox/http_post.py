"""One POST and its whole reply, within a limit by the clock.

The timeout of a socket holds for one read, so a server that sends a byte now and then is never late:
not in the status line, not in the headers, not in the body. The exchange therefore runs in a thread
of its own, and the caller waits for the end of the thread, name lookup and connecting included. A
thread that was given up ends with the next pause of the server, and is no reason to stay alive.

Every status is a reply, redirects included: to follow one would carry the request, and a key in its
headers, to an address that the user never gave.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.request import HTTPErrorProcessor, Request, build_opener

READ_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server replied; the body of an error may be incomplete."""

    status: int
    headers: Message
    body: bytes


class LargeReplyError(ValueError):
    """A reply holds more than it may."""


class _EveryStatus(HTTPErrorProcessor):
    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:
        """Take it as it is: neither a redirect nor an error is handled here."""
        return response

    https_response = http_response


def post(
    url: str, body: bytes, headers: Mapping[str, str], timeout_s: float, max_bytes: int
) -> Reply:
    """Send one request, and return the reply to it.

    Args:
        url: where to.
        body: what.
        headers: beside those that HTTP requires.
        timeout_s: seconds from now to the last byte of the reply.
        max_bytes: the most that a reply may hold.

    Raises:
        TimeoutError: there is no whole reply in that time.
        OSError: the connection fails.
        HTTPException: what is replied is no HTTP.
        LargeReplyError: the reply is larger than `max_bytes`.
        ValueError: the connection ends before the reply does.
    """
    request = Request(url, body, dict(headers), method="POST")
    done: SimpleQueue[Reply | Exception] = SimpleQueue()

    def run() -> None:
        try:
            done.put(_exchange(request, timeout_s, max_bytes))
        except Exception as error:  # raised again by the thread that waits for it
            done.put(error)

    Thread(target=run, daemon=True).start()
    try:
        found = done.get(timeout=timeout_s)
    except Empty:
        raise TimeoutError(f"no reply in {timeout_s:g} s") from None
    if isinstance(found, Exception):
        raise found
    return found


def _exchange(request: Request, timeout_s: float, max_bytes: int) -> Reply:
    # Longer than the caller waits, so that the caller's limit is the one that strikes.
    until = time.monotonic() + 2 * timeout_s
    with build_opener(_EveryStatus()).open(request, timeout=2 * timeout_s) as response:
        try:
            body = _read(response, until, max_bytes)
        except (OSError, HTTPException):
            if response.status < 400:
                raise
            body = b""  # the status says enough
        return Reply(response.status, response.headers, body)


def _read(response: HTTPResponse, until: float, max_bytes: int) -> bytes:
    received = bytearray()
    while chunk := response.read1(READ_BYTES):
        received += chunk
        if time.monotonic() > until:
            raise TimeoutError("no whole reply in time")
        if len(received) > max_bytes:
            raise LargeReplyError(f"a reply of more than {max_bytes} bytes")
    # `read1` ends quietly where a connection does.
    if response.length and response.status < 400:
        raise ValueError(f"the connection ended {response.length} bytes before the reply did")
    return bytes(received)
