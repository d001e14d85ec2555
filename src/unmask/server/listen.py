"""The socket of a server: loopback, unless requests need a key."""

import socket
from ipaddress import ip_address

BACKLOG = 2048


def listen(host: str, port: int, has_key: bool) -> socket.socket:
    """Return a listening socket.

    Args:
        host: a name or an address.
        port: 0 for any that is free.
        has_key: whether requests need a key. Other machines are let in only then.

    Raises:
        ValueError: the address is not this machine's or is taken, or is reachable from other machines
            without a key.
    """
    try:
        (family, *_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if not ip_address(str(address[0])).is_loopback and not has_key:
            raise ValueError(
                f"--host {host}: other machines could use the model; give a key with --api-key, or "
                "$UNMASK_API_KEY"
            )
        return socket.create_server((str(address[0]), port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ValueError(f"--host {host} --port {port}: {error.strerror}") from None


def address_of(listener: socket.socket) -> str:
    """Return the address of a listening socket, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
