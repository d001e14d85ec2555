"""Prompts of a user: the words of a command line, or a file or stdin of text lines or JSON Lines.

Each line of a text is a prompt. A line of JSON Lines has `prompt`, a text, or `messages`, a conversation; it may have
images, as `image` or `images` or in parts of messages (`data/record_images.py`). Other keys are ignored. A name that
ends in `.json` or `.jsonl` (also `.gz`) is JSON; of other files and of stdin, the content is JSON Lines if its first
line begins with `{`. Empty lines are skipped. An error names file and line.
"""

import sys
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from unmask.checkpoints.tokenizer import encode
from unmask.data.record_images import RecordImages, placed, with_open_parts
from unmask.engine.llm import LLM
from unmask.engine.llm_arguments import conversations_of, user_message
from unmask.images import Image, image_from
from unmask.json_files import read_records, records_of
from unmask.sampling_params import SamplingParams
from unmask.types import Message, Prompt

STDIN = Path("-")
JSON_ENDINGS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user asks.

    Attributes:
        words: prompts of the command line.
        source: a file of prompts, or `-` for stdin, which is also read without words if it is not a terminal.
        images: files of images that are read with each of the words.
        image_root: directory that paths of images in the file are below; by default the file's own, and the
            current one for stdin.
    """

    words: Sequence[str] = ()
    source: Path | None = None
    images: Sequence[str] = ()
    image_root: Path | None = None


# The messages of a prompt, and whether they are a single text, which may be read without a template.
Found = tuple[str, tuple[Message, ...], bool]


def read_prompts(asked: Asked) -> list[Found]:
    """Return place, messages, and whether they are a single text, of each prompt.

    Raises:
        ValueError: there is no prompt, or a file cannot be read; naming the place of a prompt that is no
            conversation, or has images that cannot be read.
    """
    words, source = asked.words, asked.source
    if words and source:
        raise ValueError(f"--from {source}: give prompts as words or as a file, not both")
    if asked.images and not words:
        raise ValueError(
            "--image: goes with prompts as words; in a file, a line has its own `image`"
        )
    if words:
        images = [image_from(path) for path in asked.images]
        return [
            (f"prompt {number}", (user_message(word, images),), True)
            for number, word in enumerate(words, start=1)
        ]
    if source is None and sys.stdin.isatty():
        raise ValueError("no prompt: give it as a word, in a file with --from FILE, or on stdin")
    found = [*_lines(source or STDIN, asked.image_root)]
    if not found:
        raise ValueError(f"--from {source or STDIN}: holds no prompt")
    return found


def _lines(source: Path, image_root: Path | None) -> Iterator[Found]:
    if source != STDIN and source.name.endswith(JSON_ENDINGS):
        records = read_records(source, "--from")
    else:
        name = "stdin" if source == STDIN else f"--from = {source}"
        content = sys.stdin.buffer.read() if source == STDIN else source.read_bytes()
        if not content.removeprefix(BOM_UTF8).lstrip().startswith(b"{"):
            yield from _text_lines(content, name)
            return
        records = records_of(BytesIO(content), name)
    # The parent of stdin's name, `-`, is the current directory.
    images = RecordImages(image_root or source.parent, "--image-root", is_kept=False)
    for place, record in records:
        try:
            yield place, *_prompt_of(record, images)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None


def _text_lines(content: bytes, name: str) -> Iterator[Found]:
    for number, line in enumerate(content.splitlines(), start=1):
        place = f"{name}, line {number}"
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{place}: not UTF-8: {error}") from None
        if text.strip():
            yield place, (Message("user", text),), True


def _prompt_of(record: Any, images: RecordImages) -> tuple[tuple[Message, ...], bool]:
    """Return the messages of a line of JSON Lines, and whether they are its `prompt`."""
    given = [key for key in ("prompt", "messages") if isinstance(record, dict) and key in record]
    if len(given) != 1:
        raise ValueError('must be {"prompt": "..."} or {"messages": [...]}, not both')
    opened, waiting = with_open_parts(record, images)
    value = opened[given[0]]
    if given[0] == "messages" and isinstance(value, list):
        (messages,) = conversations_of([list(map(_with_parts, value))])
        return placed(messages, waiting), False
    if given[0] == "prompt" and isinstance(value, str):
        return (user_message(value, waiting),), True
    kind = "a text" if given[0] == "prompt" else "a list of messages"
    raise ValueError(f"{given[0]} must be {kind}")


def _with_parts(turn: Any) -> Any:
    """Return a turn whose opened contents, a tuple of texts and images, are parts again."""
    if not isinstance(turn, dict) or not isinstance(turn.get("content"), tuple):
        return turn
    parts = [
        {"type": "image", "image": part}
        if isinstance(part, Image)
        else {"type": "text", "text": part}
        for part in turn["content"]
    ]
    return {**turn, "content": parts}


def tokenized(
    found: Sequence[Found], llm: LLM, sampling: SamplingParams, uses_template: bool
) -> list[Prompt]:
    """Return prompts with their token ids.

    Args:
        found: from `read_prompts`.
        llm: the model that will answer them.
        sampling: how.
        uses_template: whether texts are rendered as a user's message, with the chat template.

    Raises:
        ValueError: naming the place of a prompt that does not fit the model, or needs a template.
    """
    prompts: list[Prompt] = []
    for number, (place, messages, is_text) in enumerate(found):
        try:
            prompt = Prompt("generate", number, messages)
            if not uses_template and not is_text:
                raise ValueError("messages are rendered by the chat template: leave out --no-chat")
            prompts.append(llm.tokenize([prompt])[0] if uses_template else _plain(prompt, llm))
            llm.engine.resolve(prompts[-1], sampling)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    return prompts


def _plain(prompt: Prompt, llm: LLM) -> Prompt:
    """Return the prompt of a single text as the model reads it without a template."""
    (message,), tokenizer = prompt.messages, llm.require_tokenizer()
    tokens = llm.reader.tokens(
        message.content, message.images, lambda text: encode(text, tokenizer)
    )
    return replace(prompt, token_ids=tokens.token_ids, images=tokens.images)
