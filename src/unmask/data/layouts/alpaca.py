"""Alpaca: `{"instruction": "...", "input": "...", "output": "..."}`, with `system` or without.

The prompt is the instruction, and the input on the line after it if there is one. Alpaca's own frame ("Below is
an instruction ...") is not added: the chat template is the frame.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from unmask.data.examples import Example, pair_of, text_of
from unmask.types import Message

KEYS, OPTIONAL = ("instruction", "output"), ("input", "system")


def read(record: Mapping[str, Any]) -> Example:
    """Return the pair of a record."""
    parts = [text_of(record, key) for key in ("instruction", "input") if record.get(key)]
    pair = pair_of({**record, "instruction": "\n".join(parts)}, "instruction", "output")
    if not record.get("system"):
        return pair
    return replace(pair, messages=(Message("system", text_of(record, "system")), *pair.messages))
