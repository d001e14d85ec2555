"""Addresses of services, as a configuration gives them."""

from urllib.parse import urlsplit


def check_address(name: str, address: str, example: str = "http://host:port/v1") -> None:
    """Refuse an address that could not be asked, or that holds a secret.

    Raises:
        ValueError: naming where the address is from.
    """
    try:
        parts = urlsplit(address)
        is_complete = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is none
        is_complete, parts = False, urlsplit("")
    if parts.username is not None:
        raise ValueError(f"{name} must hold no user or password: a run records its configuration")
    if not is_complete:
        raise ValueError(f"{name} = {address!r}: write it as {example}")
