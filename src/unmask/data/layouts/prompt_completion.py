"""TRL's prompt and completion: two texts, or two lists of messages of which only the second is trained."""

from collections.abc import Mapping
from typing import Any

from unmask.data.examples import Example, pair_of, turns_of

KEYS, OPTIONAL = ("prompt", "completion"), ()


def read(record: Mapping[str, Any]) -> Example:
    """Return the pair of a record, or its conversation; turns of the assistant in the prompt are not trained."""
    if isinstance(record["prompt"], str):
        return pair_of(record, "prompt", "completion")
    prompt = turns_of(record["prompt"], "prompt", "role", "content")
    completion = turns_of(record["completion"], "completion", "role", "content")
    return Example(prompt + completion, first=len(prompt))
