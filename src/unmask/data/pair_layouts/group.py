"""Sampled answers with rewards: the best and the worst of `{"prompt": "", "responses": [], "rewards": []}` are a pair.

Of equal rewards the first answer counts.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from unmask.data.pair_layouts import prompt_chosen_rejected
from unmask.data.pairs import PairExample

KEYS, OPTIONAL = ("prompt", "responses", "rewards"), ()


def read(record: Mapping[str, Any]) -> PairExample:
    """Return the pair of the best and the worst answer of a record.

    Raises:
        ValueError: the lists are none or of different lengths, or no reward is above another.
    """
    responses, rewards = (_list_of(record, key) for key in ("responses", "rewards"))
    if len(responses) != len(rewards):
        raise ValueError(f"there are {len(responses)} 'responses' and {len(rewards)} 'rewards'")
    if not all(type(r) in (int, float) and math.isfinite(r) for r in rewards):
        raise ValueError(f"'rewards' must be finite numbers, found {repr(rewards)[:80]}")
    best, worst = rewards.index(max(rewards)), rewards.index(min(rewards))
    if best == worst:
        raise ValueError(
            f"every reward is {rewards[best]}: no answer is preferred; remove the record"
        )
    pair = {"chosen": responses[best], "rejected": responses[worst]}
    return prompt_chosen_rejected.read({"prompt": record["prompt"], **pair})


def _list_of(record: Mapping[str, Any], key: str) -> list[Any]:
    value = record[key]
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) < 2:
        raise ValueError(f"{key!r} must be a list of two or more, found {repr(value)[:80]}")
    return list(value)
