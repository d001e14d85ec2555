"""Demonstrations of SFT as token ids: of a task with right answers, or of people's own records.

Chat template and end-of-text are applied as for the sampler (`checkpoints.tokenizer`): the prompt of a
demonstration is, token by token, what `rl`, `eval` and `generate --chat` give to the engine for the same
conversation, and its response ends with a token at which the engine stops. `rendered` texts are used
unchanged.

**Every turn of the assistant is a demonstration of its own**, whose prompt is the conversation before it. The
sampler writes a turn when nothing to the right of it exists: under full attention, and inside the last block
of a turn, a view of the whole conversation would show the model what the user replied. It also covers
templates that drop the thoughts of earlier turns, where one rendering is not the prompt of any later turn.

A token that the model may not write (mainly the mask token) has probability zero for any weights, so a
response that contains one is refused: its loss would be infinite.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unmask.checkpoints.image_reader import TEXT_ONLY, ImageReader, PromptTokens
from unmask.checkpoints.tokenizer import Tokenizer, encode, render_turn, token_pieces
from unmask.configs.sft_data import RecordsConfig, RecordsSection
from unmask.data.examples import LAYOUTS, Example, example_of, has_layout, layout_of, mapped
from unmask.data.record_files import has_datasets, read_file, read_hub
from unmask.data.record_images import NO_FILES, RecordImages
from unmask.images import MARKER
from unmask.types import Image, Message, Prompt, PromptImage


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt and the response to imitate.

    Attributes:
        prompt_ids: `P` token ids; never hidden. Negative ids stand for vectors of images (`types.Prompt`).
        response_ids: `R` token ids, end-of-text included; all are trained.
        step_map: `R`, the denoising step that wrote each, where one was recorded.
        images: whose vectors the prompt holds, in order.
        sources: the images of the conversation, in order; also where their codes are token ids.
        place: config key, file and line, or task and problem, for messages.
    """

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    step_map: tuple[int, ...] | None = None
    images: tuple[PromptImage, ...] = ()
    sources: tuple[Image, ...] = field(default=(), compare=False)
    place: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model: how texts become ids, which ids end a response, which may be written.

    Attributes:
        tokenizer: of the model.
        end_ids: ids that end a response; the first one is appended where a text has none. Empty: nothing is.
        drawable: `V`, which ids the model may write; any, when not given.
        reader: how the model reads prompts with images.
    """

    tokenizer: Tokenizer
    end_ids: tuple[int, ...] = ()
    drawable: Sequence[bool] | None = None
    reader: ImageReader = TEXT_ONLY


def vocabulary_of(
    tokenizer: Tokenizer,
    eos_ids: Sequence[int],
    drawable: Sequence[bool] | None = None,
    reader: ImageReader = TEXT_ONLY,
) -> Vocabulary:
    """Return the vocabulary of a tokenizer and the ids at which its model stops."""
    own = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
    return Vocabulary(tokenizer, tuple(dict.fromkeys((*own, *eos_ids))), drawable, reader)


def demonstrations_of_answers(
    answers: Iterable[tuple[Prompt, str]], vocabulary: Vocabulary
) -> Iterator[Demonstration]:
    """Yield the demonstrations of prompts and right responses to them.

    Raises:
        ValueError: naming task and problem, as `demonstrations_of_records`.
    """
    config = RecordsConfig()
    for prompt, text in answers:
        example = Example((*prompt.messages, Message("assistant", text)), len(prompt.messages))
        place = f"task {prompt.task!r}, problem {prompt.uid}"
        yield from demonstrations_of_example(example, place, config, vocabulary)


def demonstrations_of_source(
    config: RecordsConfig, key: str, vocabulary: Vocabulary, skip: int | None = None
) -> Iterator[Demonstration]:
    """Yield the demonstrations of a file or of a data set on the hub.

    Args:
        config: names it, and how it is read.
        key: of the section, such as `data`.
        vocabulary: of the model.
        skip: rows that are left out at the start of a stream; 0 by default where `config` streams.

    Raises:
        ValueError: the records cannot be read; otherwise as `demonstrations_of_records`.
    """
    records = read_source(config, key, 0 if config.streaming and skip is None else skip)
    images = RecordImages(image_root(config), f"{key}.image_root", is_kept=not config.streaming)
    return demonstrations_of_records(records, config, vocabulary, images)


def read_source(
    config: RecordsSection, key: str, skip: int | None = None
) -> Iterator[tuple[str, Any]]:
    """Return an iterator over `(place, record)` of a file or of a data set on the hub.

    Args:
        config: names it.
        key: of the section, such as `data`.
        skip: rows that are left out at the start of a stream; None reads the whole set.

    Raises:
        ValueError: the records cannot be read.
    """
    if config.path is not None:
        return read_file(config.path, f"{key}.path")
    assert config.hub is not None
    if not has_datasets():
        raise ValueError(
            f"{key}.hub = {config.hub}: `pip install 'unmask[data]'` loads it, or give its file "
            f"as {key}.path"
        )
    try:
        return read_hub(config.hub, config.subset, config.split, skip)
    except ValueError as error:
        raise ValueError(
            f"{key}.hub = {error}; download a file of it and give that as {key}.path"
        ) from error


def image_root(config: RecordsSection) -> Path | None:
    """Return the directory that paths of images are below, if there is one."""
    return config.image_root or (config.path and config.path.parent)


def demonstrations_of_file(path: Path, vocabulary: Vocabulary) -> list[Demonstration]:
    """Return the demonstrations of a file as `data.path` alone reads it."""
    return list(demonstrations_of_source(RecordsConfig(path=path), "data", vocabulary))


def demonstrations_of_records(
    records: Iterable[tuple[str, Any]],
    config: RecordsConfig,
    vocabulary: Vocabulary,
    images: RecordImages = NO_FILES,
) -> Iterator[Demonstration]:
    """Yield the demonstrations of records, in their order.

    Args:
        records: pairs of place and record.
        config: layout, names of fields, which turns are trained, whether texts are final.
        vocabulary: of the model.
        images: opens those of the records.

    Raises:
        ValueError: naming the place: a record is no table or of an unknown layout, lacks a field, has an
            empty response or an unknown role, the chat template fails on it, a text is not in the
            tokenizer's alphabet, a step map has another length than its response, a response holds a
            token that the model may not write, or an image cannot be read.
    """
    for place, values, layout in in_layout(records, config.layout, config.fields):
        try:
            example = example_of(values, layout, images)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        yield from demonstrations_of_example(example, place, config, vocabulary)


def in_layout(
    records: Iterable[tuple[str, Any]],
    stated: str | None,
    fields: Mapping[Any, str],
    package: str = LAYOUTS,
    example: str = 'prompt = "...", response = "..."',
) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Yield place and fields of each record, and the layout of all of them.

    Args:
        records: pairs of place and record.
        stated: the layout; that of the first record when not given.
        fields: names here and in the records.
        package: its modules are the layouts.
        example: of `fields`, for messages.

    Raises:
        ValueError: naming the place of a record that is no table, of an unknown layout or of another than
            the first one.
    """
    layout = stated
    for place, record in records:
        if not isinstance(record, Mapping):
            raise ValueError(f"{place}: a record must be an object, found {type(record).__name__}")
        try:
            values = mapped(record, fields)
            layout = layout or layout_of(values, package, example=example)
            if stated is None and not has_layout(values, layout, package):
                _refuse_mixture(values, layout, package)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        yield place, values, layout


def _refuse_mixture(record: Mapping[str, Any], layout: str, package: str) -> None:
    """Raise if a record that is not of a layout is of another one."""
    try:
        other = layout_of(record, package)
    except ValueError:
        return  # `opened_record` names the missing field
    sources = " ([[data.sources]])" if package == LAYOUTS else ""
    raise ValueError(
        f"the record has the layout {other}, the first one has {layout}: give each layout a file of "
        f"its own{sources}"
    )


def demonstrations_of_example(
    example: Example, place: str, config: RecordsConfig, vocabulary: Vocabulary
) -> list[Demonstration]:
    """Return a demonstration for each trained turn of an example.

    Raises:
        ValueError: naming the place, as `demonstrations_of_records`.
    """
    try:
        found = list(_of_example(example, config, vocabulary))
        for demonstration in found:
            _check(demonstration, vocabulary)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    return [replace(demonstration, place=place) for demonstration in found]


def _of_example(
    example: Example, config: RecordsConfig, vocabulary: Vocabulary
) -> Iterator[Demonstration]:
    """Yield a demonstration for each trained turn of an example."""
    if example.kind == "ids":
        yield Demonstration(*example.ids, example.step_map)
        return
    messages = example.messages
    turns = [n for n, m in enumerate(messages) if m.role == "assistant" and n >= example.first]
    if not turns:
        raise ValueError("there is no turn of the assistant to train")
    for number in turns[-1:] if config.turns == "last" else turns:
        asked = messages[: number + 1]
        prompt, response = _token_ids(example, asked, config, vocabulary)
        sources = tuple(image for message in asked for image in message.images)
        yield Demonstration(
            prompt.token_ids, tuple(response), example.step_map, prompt.images, sources
        )


def _token_ids(
    example: Example,
    messages: Sequence[Message],
    config: RecordsConfig,
    vocabulary: Vocabulary,
) -> tuple[PromptTokens, list[int]]:
    """Return prompt and response of a conversation that ends with the assistant's turn."""
    tokenizer, reader = vocabulary.tokenizer, vocabulary.reader
    before = "".join(message.content for message in messages[:-1])
    images = [image for message in messages for image in message.images]
    if reader.settings and not images and MARKER in before:
        raise ValueError(f"the prompt has {MARKER}, and the record has no image for it")

    def encoded(text: str) -> list[int]:
        return encode(text, tokenizer)

    if config.rendered:
        if example.kind == "chat":
            raise ValueError("turns with roles are not rendered texts: leave out data.rendered")
        return reader.tokens(before, images, encoded), encoded(messages[-1].content)
    if example.kind == "text":
        return PromptTokens(()), _ended(messages[-1].content, "", vocabulary)
    if len(messages) == 1:
        raise ValueError("the conversation begins with the assistant: nothing is asked")
    prompt, response, rest = render_turn(reader.conversation(messages), tokenizer)
    return reader.tokens(prompt, images, encoded), _ended(response, rest, vocabulary)


def _ended(response: str, rest: str, vocabulary: Vocabulary) -> list[int]:
    """Return the ids of a response up to the token that ends it, which is appended if there is none.

    Args:
        response: the text; a template may write a line break after its end of turn, which the sampler
            never does, because it stops there.
        rest: the text after it in the rendering.
        vocabulary: of the model.
    """
    tokenizer, ends = vocabulary.tokenizer, vocabulary.end_ids
    ids = encode(response, tokenizer)
    num_until_end = next((n for n in range(len(ids), 0, -1) if ids[n - 1] in ends), 0)
    if num_until_end and not "".join(token_pieces(ids[num_until_end:], tokenizer)).strip():
        return ids[:num_until_end]
    after = encode(rest, tokenizer)[:1] if rest else []
    return ids + (after if after and after[0] in ends else list(ends[:1]))


def _check(demonstration: Demonstration, vocabulary: Vocabulary) -> None:
    response, steps = demonstration.response_ids, demonstration.step_map
    if steps is not None and len(steps) != len(response):
        raise ValueError(
            f"'step_map' has {len(steps)} steps and the response {len(response)} tokens, end-of-text "
            "included: give one step per token (data.rendered = true if the texts are final)"
        )
    drawable = vocabulary.drawable
    if drawable is None:
        return
    largest = max(demonstration.prompt_ids, default=0)
    if largest >= len(drawable):
        raise ValueError(
            f"the prompt holds token id {largest}, outside the {len(drawable)} ids of the model: take "
            "the tokenizer of the model"
        )
    for token_id in response:
        if token_id >= len(drawable) or not drawable[token_id]:
            (piece,) = token_pieces([token_id], vocabulary.tokenizer)
            raise ValueError(
                f"the response holds {piece!r} (token id {token_id}), which the model may not write: "
                "remove it, or set model.mask_id if that is not the mask token"
            )
