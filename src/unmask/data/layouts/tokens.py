"""`{"prompt_ids": [...], "response_ids": [...]}`: token ids, with a `step_map` or without.

A recorded trajectory is exact in this layout alone: the text of sampled tokens does not give them back.
"""

from collections.abc import Mapping
from typing import Any

from unmask.data.examples import Example, integers_of, step_map_of

KEYS, OPTIONAL = ("prompt_ids", "response_ids"), ("step_map",)


def read(record: Mapping[str, Any]) -> Example:
    """Return the ids of a record; end-of-text is not appended to them."""
    ids = (integers_of(record, "prompt_ids"), integers_of(record, "response_ids"))
    if not ids[1]:
        raise ValueError("'response_ids' is empty: there is nothing to imitate")
    return Example((), step_map=step_map_of(record), kind="ids", ids=ids)
