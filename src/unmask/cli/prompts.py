"""Prompts of a user: the words of a command line, or a file or stdin of text lines or JSON Lines.

Each line of a text is a prompt. A line of JSON Lines has `prompt`, a text, or `messages`, a conversation; other
keys are ignored. A name that ends in `.json` or `.jsonl` (also `.gz`) is JSON; of other files and of stdin,
the content is JSON Lines if its first line begins with `{`. Empty lines are skipped. An error names file
and line.
"""

import sys
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from unmask.checkpoints.tokenizer import encode
from unmask.engine.llm import LLM
from unmask.engine.llm_arguments import conversations_of
from unmask.json_files import read_records, records_of
from unmask.types import Message, Prompt, SamplingParams

STDIN = Path("-")
JSON_ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


def read_prompts(words: Sequence[str], source: Path | None) -> list[tuple[str, Any]]:
    """Return `(place, prompt)`: a text, or messages; not checked yet.

    Args:
        words: prompts of the command line.
        source: a file, or `-` for stdin, which is also read without words if it is not a terminal.

    Raises:
        ValueError: there is no prompt, or the file cannot be read.
    """
    if words and source:
        raise ValueError(f"--from {source}: give prompts as words or as a file, not both")
    if words:
        return [(f"prompt {number}", word) for number, word in enumerate(words, start=1)]
    if source is None and sys.stdin.isatty():
        raise ValueError("no prompt: give it as a word, in a file with --from FILE, or on stdin")
    found = [*_lines(source or STDIN)]
    if not found:
        raise ValueError(f"--from {source or STDIN}: holds no prompt")
    return found


def _lines(source: Path) -> Iterator[tuple[str, Any]]:
    if source != STDIN and source.name.endswith(JSON_ENDINGS):
        records = read_records(source, "--from")
    else:
        name = "stdin" if source == STDIN else f"--from = {source}"
        content = sys.stdin.buffer.read() if source == STDIN else source.read_bytes()
        if not content.removeprefix(BOM_UTF8).lstrip().startswith(b"{"):
            yield from _text_lines(content, name)
            return
        records = records_of(BytesIO(content), name)
    for place, record in records:
        yield place, _prompt_of(record, place)


def _text_lines(content: bytes, name: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(content.splitlines(), start=1):
        place = f"{name}, line {number}"
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{place}: not UTF-8: {error}") from None
        if text.strip():
            yield place, text


def _prompt_of(record: Any, place: str) -> Any:
    """Return the prompt, or the messages, of a line of JSON Lines."""
    given = [key for key in ("prompt", "messages") if isinstance(record, dict) and key in record]
    if len(given) != 1:
        raise ValueError(f'{place}: must be {{"prompt": "..."}} or {{"messages": [...]}}, not both')
    value = record[given[0]]
    if not isinstance(value, str if given[0] == "prompt" else list):
        kind = "a text" if given[0] == "prompt" else "a list of messages"
        raise ValueError(f"{place}: {given[0]} must be {kind}")
    return value


def tokenized(
    found: Sequence[tuple[str, Any]], llm: LLM, sampling: SamplingParams, uses_template: bool
) -> list[Prompt]:
    """Return prompts with their token ids.

    Args:
        found: from `read_prompts`.
        llm: the model that will answer them.
        sampling: how.
        uses_template: whether texts are rendered as a user's message, with the chat template.

    Raises:
        ValueError: naming the place of a prompt that is no conversation, or does not fit the model.
    """
    prompts: list[Prompt] = []
    for number, (place, value) in enumerate(found):
        try:
            prompts.append(_tokenized(number, value, llm, uses_template))
            llm.engine.resolve(prompts[-1], sampling)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    return prompts


def _tokenized(number: int, value: Any, llm: LLM, uses_template: bool) -> Prompt:
    if isinstance(value, str):
        messages = (Message("user", value),)
    elif uses_template:
        (messages,) = conversations_of([value])
    else:
        raise ValueError("messages are rendered by the chat template: leave out --no-chat")
    prompt = Prompt("generate", number, messages)
    if uses_template:
        return llm.tokenize([prompt])[0]
    return replace(prompt, token_ids=tuple(encode(value, llm.require_tokenizer())))
