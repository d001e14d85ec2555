"""Demonstrations: what SFT imitates, as token ids.

They come from a task that knows right answers, or from a JSON file of `prompt` and `response` texts
that are already rendered with the model's template (the format of dLLM-RL). A task's responses get
the end-of-text token; a file's are taken as written.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.json_records import read_records
from unmask.models.tokenizer import Tokenizer, encode, render
from unmask.types import Prompt


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt and the response to imitate, end of text included."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]


def demonstrations_of_answers(
    answers: Iterable[tuple[Prompt, str]], tokenizer: Tokenizer
) -> list[Demonstration]:
    """Return the demonstrations of prompts and right responses to them; end-of-text is appended."""
    end = (tokenizer.eos_token_id,) if tokenizer.eos_token_id is not None else ()
    return [
        Demonstration(tuple(render(prompt.messages, tokenizer)), (*encode(text, tokenizer), *end))
        for prompt, text in answers
    ]


def demonstrations_of_file(path: Path, tokenizer: Tokenizer) -> list[Demonstration]:
    """Return the demonstrations of a JSON list or a JSON Lines file with `prompt` and `response`.

    Raises:
        ValueError: naming file and record, if the file is missing, empty or not of this form, or a
            text is not in the tokenizer's alphabet.
    """
    found = [
        Demonstration(
            _token_ids(record, "prompt", place, tokenizer),
            _token_ids(record, "response", place, tokenizer),
        )
        for place, record in read_records(path, "data.path")
    ]
    if not found:
        raise ValueError(f"data.path = {path}: holds no demonstrations")
    return found


def _token_ids(record: Any, key: str, place: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    text = record.get(key) if isinstance(record, dict) else None
    if not isinstance(text, str):
        raise ValueError(f"{place}: must be an object with a text under {key!r}")
    if key == "response" and not text:
        raise ValueError(f"{place}: {key!r} is empty: there is nothing to imitate")
    try:
        return tuple(encode(text, tokenizer))
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
