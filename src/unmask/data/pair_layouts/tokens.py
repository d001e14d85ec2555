"""`{"prompt_ids": [...], "chosen_ids": [...], "rejected_ids": [...]}`: token ids, with step maps or without.

The recorded orders of writing are `chosen_step_map` and `rejected_step_map`, a denoising step per token.
"""

from collections.abc import Mapping
from typing import Any

from unmask.data.examples import Example, integers_of
from unmask.data.pairs import PairExample

KEYS = ("prompt_ids", "chosen_ids", "rejected_ids")
OPTIONAL = ("chosen_step_map", "rejected_step_map")


def read(record: Mapping[str, Any]) -> PairExample:
    """Return the ids of a record; end-of-text is not appended to them."""
    return PairExample(*(_answer(record, name) for name in ("chosen", "rejected")))


def _answer(record: Mapping[str, Any], name: str) -> Example:
    ids = integers_of(record, "prompt_ids"), integers_of(record, f"{name}_ids")
    if not ids[1]:
        raise ValueError(f"'{name}_ids' is empty: there is nothing to prefer")
    key = f"{name}_step_map"
    steps = integers_of(record, key) if record.get(key) is not None else None
    return Example((), step_map=steps, kind="ids", ids=ids)
