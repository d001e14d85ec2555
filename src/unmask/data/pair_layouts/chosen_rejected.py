"""TRL's implicit prompt: `chosen` and `rejected` are whole conversations, alike up to their last turn."""

from collections.abc import Mapping
from typing import Any

from unmask.data.examples import Example, turns_of
from unmask.data.pairs import PairExample

KEYS, OPTIONAL = ("chosen", "rejected"), ()


def read(record: Mapping[str, Any]) -> PairExample:
    """Return the pair of a record.

    Raises:
        ValueError: a conversation is a text, whose roles no rule tells apart.
    """
    for key in KEYS:
        if isinstance(record[key], str):
            raise ValueError(
                f"{key!r} is a text without a 'prompt': give the prompt as a field of its own, or both "
                "conversations as lists of messages"
            )
    return PairExample(*(Example(turns_of(record[key], key, "role", "content")) for key in KEYS))
