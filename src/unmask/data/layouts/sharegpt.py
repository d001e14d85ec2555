"""ShareGPT: `{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}`."""

from collections.abc import Mapping
from typing import Any

from unmask.data.examples import Example, turns_of

KEYS, OPTIONAL = ("conversations",), ()


def read(record: Mapping[str, Any]) -> Example:
    """Return the conversation of a record."""
    return Example(turns_of(record["conversations"], "conversations", "from", "value"))
