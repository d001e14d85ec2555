"""Demonstrations of SFT as token ids.

They come from a task with right answers, or from a JSON file of `prompt` and `response` strings that are
already rendered with the model's template (the format of dLLM-RL). The end-of-text token is appended to
a task's responses; a file's responses are used unchanged.

A token that the model may not write (mainly the mask token) has probability zero for any weights, so a
response that contains one is refused: its loss would be infinite.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.checkpoints.tokenizer import Tokenizer, encode, render, token_pieces
from unmask.json_files import read_records
from unmask.types import Prompt


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt and the response to imitate, end-of-text token included.

    `step_map` holds the denoising step that revealed each token of the response, if it was recorded.
    """

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    step_map: tuple[int, ...] | None = None


def demonstrations_of_answers(
    answers: Iterable[tuple[Prompt, str]],
    tokenizer: Tokenizer,
    drawable: Sequence[bool] | None = None,
) -> list[Demonstration]:
    """Return the demonstrations of prompts and right responses to them; end-of-text is appended.

    Args:
        answers: prompts and responses.
        tokenizer: of the model.
        drawable: `V`, which ids the model may write; any, when not given.

    Raises:
        ValueError: naming task and problem, if a response holds a token the model may not write.
    """
    end = (tokenizer.eos_token_id,) if tokenizer.eos_token_id is not None else ()
    found: list[Demonstration] = []
    for prompt, text in answers:
        response = (*encode(text, tokenizer), *end)
        _check_drawable(
            response, f"task {prompt.task!r}, problem {prompt.uid}", tokenizer, drawable
        )
        found.append(Demonstration(tuple(render(prompt.messages, tokenizer)), response))
    return found


def demonstrations_of_file(
    path: Path, tokenizer: Tokenizer, drawable: Sequence[bool] | None = None
) -> list[Demonstration]:
    """Return the demonstrations of a JSON list or a JSON Lines file with `prompt` and `response`.

    Args:
        path: the file.
        tokenizer: of the model.
        drawable: `V`, which ids the model may write; any, when not given.

    Raises:
        ValueError: naming file and record, if the file is missing, empty or not of this form, a
            text is not in the tokenizer's alphabet, or a response holds a token the model may not
            write.
    """
    found: list[Demonstration] = []
    for place, record in read_records(path, "data.path"):
        prompt = _token_ids(record, "prompt", place, tokenizer)
        response = _token_ids(record, "response", place, tokenizer)
        _check_drawable(response, place, tokenizer, drawable)
        found.append(Demonstration(prompt, response))
    if not found:
        raise ValueError(f"data.path = {path}: holds no demonstrations")
    return found


def _check_drawable(
    token_ids: Sequence[int], place: str, tokenizer: Tokenizer, drawable: Sequence[bool] | None
) -> None:
    if drawable is None:
        return
    for token_id in token_ids:
        if token_id >= len(drawable) or not drawable[token_id]:
            (piece,) = token_pieces([token_id], tokenizer)
            raise ValueError(
                f"{place}: the response holds {piece!r} (token id {token_id}), which the model may "
                "not write: remove it, or set model.mask_id if that is not the mask token"
            )


def _token_ids(record: Any, key: str, place: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    text = record.get(key) if isinstance(record, dict) else None
    if not isinstance(text, str):
        raise ValueError(f"{place}: must be an object with a string under {key!r}")
    if key == "response" and not text:
        raise ValueError(f"{place}: {key!r} is empty: there is nothing to imitate")
    try:
        return tuple(encode(text, tokenizer))
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
