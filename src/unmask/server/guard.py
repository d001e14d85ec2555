"""What every request passes before its body is read: the key, the content type, the size of the body."""

import hmac
import json
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unmask.server.errors import ApiError
from unmask.server.metrics import Metrics
from unmask.server.params import ServerParams

# Paths that need the key, if there is one.
PROTECTED = ("/v1/", "/admin/")
# A body beyond the limit is read to its end and dropped, so that its sender gets the answer. Beyond this
# many times the limit, the connection is closed.
DRAINED = 8


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, params: ServerParams, metrics: Metrics) -> None:
        """Wrap an application.

        Args:
            app: what answers the requests that pass.
            params: the key and the limit.
            metrics: counts the answers.
        """
        self._app, self._params, self._metrics = app, params, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Set by the router; a path that it does not have is no label.
                route = scope.get("route")
                self._metrics.answered(getattr(route, "path", "other"), message["status"])
            await send(message)

        try:
            self._check(scope)
        except ApiError as error:
            await self._drain(receive)
            await answer(error)(scope, receive, counted)
        else:
            await self._app(scope, self._limited(receive), counted)

    def _check(self, scope: Scope) -> None:
        headers, key = Headers(scope=scope), self._params.api_key
        if key and scope["path"].startswith(PROTECTED):
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), key.encode()):
                raise ApiError(401, "the API key is missing or wrong", code="invalid_api_key")
        # Pages of other origins may let a name of theirs mean this machine, and then read the answers.
        if not key and not is_local(headers.get("host", "")):
            raise ApiError(
                403,
                f"Host: {headers.get('host', '')!r:.200} is not this machine's own name; use localhost, "
                "127.0.0.1 or an API key",
                code="foreign_host",
            )
        is_json = headers.get("content-type", "").partition(";")[0].strip() == "application/json"
        # Pages of other origins may post plain text to a local server without being asked.
        if scope["method"] == "POST" and not is_json:
            raise ApiError(415, "Content-Type: must be application/json", code="not_json")

    async def _drain(self, receive: Receive, num_read: int = 0) -> None:
        """Read the rest of a body and drop it."""
        while num_read < DRAINED * self._params.max_body_bytes:
            message = await receive()
            num_read += len(message.get("body", b""))
            if not message.get("more_body", False):
                return

    def _limited(self, receive: Receive) -> Receive:
        """Return `receive`, which raises for a body beyond the limit."""
        num_read = 0

        async def limited() -> Message:
            nonlocal num_read
            message: Any = await receive()
            num_read += len(message.get("body", b""))
            if num_read > self._params.max_body_bytes:
                if message.get("more_body", False):
                    await self._drain(receive, num_read)
                raise ApiError(
                    413,
                    f"the body is larger than {self._params.max_body_bytes} bytes, the limit "
                    "(--max-body-bytes)",
                    code="body_too_large",
                )
            return message

        return limited


def is_local(host: str) -> bool:
    """Return whether a `Host` header names this machine's own address; no name of a network does."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def answer(error: ApiError) -> Response:
    """Return the HTTP answer of an error."""
    # Escapes: a name of the body that the message quotes may hold half a surrogate pair.
    text = json.dumps(error.body())
    return Response(text, error.status, dict(error.headers), "application/json")
