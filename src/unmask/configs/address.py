"""Addresses of services, as a configuration gives them."""

from urllib.parse import urlsplit

from pydantic import AfterValidator


def check_address(name: str, address: str, example: str = "http://host:port/v1") -> None:
    """Check that an address is complete and contains no secret.

    Args:
        name: where the address comes from, for the message.
        address: the address.
        example: a right address, for the message.

    Raises:
        ValueError: naming `name`.
    """
    try:
        parts = urlsplit(address)
        is_complete = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # unclosed brackets, or an invalid port
        is_complete, parts = False, urlsplit("")
    if parts.username is not None:
        raise ValueError(f"{name} must hold no user or password: a run records its configuration")
    if not is_complete:
        raise ValueError(f"{name} = {address!r}: write it as {example}")


def valid_address(name: str, example: str = "http://host:port/v1") -> AfterValidator:
    """Return the validator of a section's field; arguments as `check_address`."""

    def check(address: str) -> str:
        check_address(name, address, example)
        return address

    return AfterValidator(check)
