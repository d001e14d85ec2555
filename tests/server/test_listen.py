"""The socket: loopback unless there is a key."""

import socket

import pytest

from unmask.server.listen import address_of, listen


def test_a_free_port_is_taken() -> None:
    with listen("localhost", 0, False) as listener:
        assert address_of(listener).startswith("http://127.0.0.1:") or "[::1]" in address_of(
            listener
        )


def test_other_machines_need_a_key() -> None:
    with pytest.raises(ValueError, match="--api-key"):
        listen("0.0.0.0", 0, False)
    listen("0.0.0.0", 0, True).close()


def test_an_address_that_is_taken_or_unknown_is_named() -> None:
    with listen("127.0.0.1", 0, False) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ValueError, match=f"--port {port}"):
            listen("127.0.0.1", port, False)
    with pytest.raises(ValueError, match=r"--host no\.such\.host\.invalid"):
        listen("no.such.host.invalid", 0, False)


def test_addresses_are_urls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert address_of(listener) == f"http://127.0.0.1:{port}"
