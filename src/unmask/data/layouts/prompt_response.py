"""`{"prompt": "...", "response": "..."}`, with dLLM-RL's `step_map` (a step per response token) or without."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from unmask.data.examples import Example, pair_of, step_map_of

KEYS, OPTIONAL = ("prompt", "response"), ("step_map",)


def read(record: Mapping[str, Any]) -> Example:
    """Return the pair of a record."""
    return replace(pair_of(record, "prompt", "response"), step_map=step_map_of(record))
