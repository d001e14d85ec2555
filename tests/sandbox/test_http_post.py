"""One exchange has one limit by the clock, whatever the server does with its bytes."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

import pytest

from unmask.sandbox.http_post import Reply, post, run_with_client

GOOD = b"HTTP/1.1 200 OK\r\nX-Kind: good\r\nContent-Length: 4\r\n\r\n"
# Far above what an exchange on loopback takes, far below what the servers here would take.
LIMIT_S, DRIP_S = 0.3, 30.0


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Generator[str]:
    """Serve every connection by a function of its socket, once the request has arrived."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def handle(connection: socket.socket) -> None:
            with connection:
                received = b""
                while b"ping" not in received and (data := connection.recv(1 << 16)):
                    received += data
                with suppress(OSError):
                    serve(connection)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=handle, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        listening.shutdown(socket.SHUT_RDWR)


def ask(url: str, timeout_s: float = 20.0, max_bytes: int = 1000) -> Reply:
    headers = {"Content-Type": "text/plain"}
    return run_with_client(lambda client: post(client, url, b"ping", headers, timeout_s, max_bytes))


def drip(first: bytes, then: bytes) -> Callable[[socket.socket], None]:
    """Send a beginning, then some bytes again and again, with pauses too short for a socket's timeout."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(first)
        end = time.monotonic() + DRIP_S
        while time.monotonic() < end:
            connection.sendall(then)
            time.sleep(0.02)

    return serve


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"", b""),
        (b"HTTP/1.1 200 ", b"O"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"a"),
        (b"HTTP/1.1 200 OK\r\n", b"X: a\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 900\r\n\r\n", b"x"),
        (b"HTTP/1.1 307 There\r\nContent-Length: 900\r\n\r\n", b"x"),
    ],
)
def test_the_limit_holds_whatever_drips(first: bytes, then: bytes) -> None:
    with server(drip(first, then)) as url:
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            ask(url, LIMIT_S)
        assert time.monotonic() - start < DRIP_S / 2


def test_the_limit_holds_where_no_connection_is_accepted() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        start = time.monotonic()
        for _ in range(3):  # the first fill the queue of connections
            with pytest.raises(TimeoutError, match=r"no reply in 0\.3 s"):
                ask(url, LIMIT_S)
        assert time.monotonic() - start < DRIP_S / 2


def test_a_reply_has_status_headers_and_body() -> None:
    with server(lambda connection: connection.sendall(GOOD + b"pong")) as url:
        reply = ask(url)
    assert (reply.status, reply.headers["X-Kind"], reply.body) == (200, "good", b"pong")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 400, 500])
def test_every_status_is_a_reply_and_no_redirect_is_followed(status: int) -> None:
    asked: list[str] = []

    def elsewhere(connection: socket.socket) -> None:
        asked.append("elsewhere")
        connection.sendall(GOOD + b"pong")

    with server(elsewhere) as other:
        head = f"HTTP/1.1 {status} X\r\nLocation: {other}\r\nContent-Length: 2\r\n\r\nno"
        with server(lambda connection: connection.sendall(head.encode())) as url:
            reply = ask(url)
    assert (reply.status, reply.body, asked) == (status, b"no", [])


@pytest.mark.parametrize(
    ("sent", "error", "said"),
    [
        (GOOD + b"po", ConnectionError, "without sending complete message"),
        (GOOD.replace(b": 4", b": 5000") + b"x" * 5000, ValueError, "more than 1000 bytes"),
        (b"SSH-2.0-OpenSSH\r\n", ConnectionError, "RemoteProtocolError"),
    ],
)
def test_half_a_reply_and_a_huge_one_are_refused(
    sent: bytes, error: type[Exception], said: str
) -> None:
    with server(lambda c: c.sendall(sent)) as url, pytest.raises(error, match=said):
        ask(url)


def test_an_error_that_breaks_off_keeps_its_status() -> None:
    broken = b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nbusy"
    with server(lambda connection: connection.sendall(broken)) as url:
        assert ask(url).status == 401


def test_a_request_can_be_sent_from_a_running_event_loop() -> None:
    async def notebook() -> Reply:
        return ask(url)

    with server(lambda connection: connection.sendall(GOOD + b"pong")) as url:
        assert asyncio.run(notebook()).body == b"pong"
