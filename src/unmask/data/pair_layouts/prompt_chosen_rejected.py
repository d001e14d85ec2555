"""TRL's explicit prompt, and UltraFeedback's: `prompt`, `chosen` and `rejected`, each a text or a list of messages.

The two answers are texts, the turns that follow the prompt, or whole conversations that begin with it
(`ultrafeedback_binarized`).
"""

from collections.abc import Mapping
from typing import Any

from unmask.data.examples import Example, response_of, text_of, turns_of
from unmask.data.pairs import PairExample
from unmask.types import Message

KEYS, OPTIONAL = ("prompt", "chosen", "rejected"), ()


def read(record: Mapping[str, Any]) -> PairExample:
    """Return the pair of a record."""
    is_text = isinstance(record["prompt"], str)
    prompt = (
        (Message("user", text_of(record, "prompt")),)
        if is_text
        else turns_of(record["prompt"], "prompt", "role", "content")
    )
    has_roles = not (is_text and isinstance(record["chosen"], str))
    return PairExample(*(_answer(record, key, prompt, has_roles) for key in ("chosen", "rejected")))


def _answer(
    record: Mapping[str, Any], key: str, prompt: tuple[Message, ...], has_roles: bool
) -> Example:
    kind = "chat" if has_roles else "pair"
    if isinstance(record[key], str):
        return Example((*prompt, Message("assistant", response_of(record, key))), kind=kind)
    turns = turns_of(record[key], key, "role", "content")
    if turns[0].role == "assistant":
        return Example(prompt + turns, len(prompt), kind=kind)
    if [m for m in turns if m.role == "user"][0:1] != [m for m in prompt if m.role == "user"][0:1]:
        raise ValueError(f"{key!r} is a conversation that does not begin with 'prompt'")
    return Example(turns, kind=kind)
