"""`{"text": "..."}`: all of it is trained, without a prompt and without the chat template."""

from collections.abc import Mapping
from typing import Any

from unmask.data.examples import Example, response_of
from unmask.types import Message

KEYS, OPTIONAL = ("text",), ()


def read(record: Mapping[str, Any]) -> Example:
    """Return the text of a record."""
    return Example((Message("assistant", response_of(record, "text")),), kind="text")
