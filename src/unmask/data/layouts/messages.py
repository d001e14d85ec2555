"""Chat messages of OpenAI's layout: `{"messages": [{"role": "user", "content": "..."}, ...]}`."""

from collections.abc import Mapping
from typing import Any

from unmask.data.examples import Example, turns_of

KEYS, OPTIONAL = ("messages",), ()


def read(record: Mapping[str, Any]) -> Example:
    """Return the conversation of a record."""
    return Example(turns_of(record["messages"], "messages", "role", "content"))
