"""One record of people's data as an example: a conversation, a pair of texts, a text, or token ids.

The layout of a record follows from its keys (`layouts/`). What a record holds and an example has no place for,
such as tools and videos, is refused: the model would be trained on another text than the record's.
"""

import pkgutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

from unmask.configs.sft_data import TRAINERS
from unmask.data.record_images import COLUMNS, NO_FILES, RecordImages, placed, with_open_parts
from unmask.types import Image, Message

Role = Literal["system", "user", "assistant"]
# The roles of OpenAI's and of ShareGPT's layout.
ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
}
LAYOUTS = "unmask.data.layouts"
# Fields that change what the model reads, and that no layout reads.
UNREAD = ("tools", "functions", "videos", "video", "audio", "audios", "history")
UNREAD_OF_TURN = (
    *("reasoning_content", "reasoning", "thinking", "tool_calls", "function_call", "tool_call_id"),
    *("images", "audio"),
)
# Longest text, in characters: more than any model's positions, and what is tokenised in memory.
MAX_CHARACTERS = 2**23


@dataclass(frozen=True, slots=True)
class Example:
    """What one record teaches.

    Attributes:
        messages: the conversation; a pair of texts is a turn of the user and one of the assistant.
        first: index of the first turn that may be trained; earlier ones are context.
        step_map: the recorded denoising step of each token of the response, if there is one.
        kind: `chat` has turns with roles; `pair` a prompt and a response; `text` no prompt, and no template
            around it; `ids` token ids in place of messages.
        ids: of prompt and response, where `kind` is `ids`.
    """

    messages: tuple[Message, ...]
    first: int = 0
    step_map: tuple[int, ...] | None = None
    kind: Literal["chat", "pair", "text", "ids"] = "chat"
    ids: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


@cache
def all_layouts(package: str = LAYOUTS) -> dict[str, ModuleType]:
    """Return the layouts by name: the modules of `data/layouts`, or of another package."""
    folder = import_module(package)
    names = sorted(found.name for found in pkgutil.iter_modules(folder.__path__))
    return {name: import_module(f"{package}.{name}") for name in names}


def layout_of(
    record: Mapping[str, Any],
    package: str = LAYOUTS,
    section: str = "data",
    example: str = 'prompt = "...", response = "..."',
    fields: Collection[str] = (),
) -> str:
    """Return the name of the only layout whose keys a record has; of two, the one that has the other's and more.

    Args:
        record: the record.
        package: its modules are the layouts.
        section: the config section with the keys `layout` and `fields`, for messages.
        example: of `fields`, for messages.
        fields: names that the user mapped, which the layout must read.

    Raises:
        ValueError: naming the record's keys and the layouts, if it has those of none or of several.
    """
    keys = {
        name: {*layout.KEYS}
        for name, layout in all_layouts(package).items()
        if has_layout(record, name, package)
        and {*fields} <= {*layout.KEYS, *layout.OPTIONAL, *COLUMNS}
    }
    found = [name for name in keys if not any(keys[name] < other for other in keys.values())]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"the record has the keys of {' and of '.join(found)}: choose one by {section}.layout"
        )
    for other, command in TRAINERS.items():
        names = all_layouts(other) if other != package else ()
        if any(has_layout(record, name, other) for name in names):
            raise ValueError(f"the record has the keys of what {command} trains: run that")
    accepted = "; ".join(
        f"{name}: {', '.join(layout.KEYS)}" for name, layout in all_layouts(package).items()
    )
    raise ValueError(
        f"the record has the keys {_names(record)}, which is no layout "
        f"that is read ({accepted}); {section}.fields = {{{example}}} maps names"
    )


def example_of(record: Mapping[str, Any], layout: str, images: RecordImages = NO_FILES) -> Example:
    """Return the example of a record of a layout, with its images.

    Raises:
        ValueError: naming the field that is missing or wrong, or the image.
    """
    opened, waiting = opened_record(record, layout, images)
    return with_images(all_layouts()[layout].read(opened), waiting, layout)


def opened_record(
    record: Mapping[str, Any], layout: str, images: RecordImages, package: str = LAYOUTS
) -> tuple[Mapping[str, Any], list[Image]]:
    """Return a record of a layout with its parts opened, and the images that wait for a place.

    Raises:
        ValueError: naming the field that is missing or not read, or the image.
    """
    module = all_layouts(package)[layout]
    missing = [key for key in module.KEYS if record.get(key) is None]
    if missing:
        raise ValueError(
            f"{missing[0]!r} is missing: a record of the layout {layout} has "
            f"{', '.join(module.KEYS)}, this one has {_names(record)}"
        )
    unread = [key for key in UNREAD if record.get(key)]
    if unread:
        raise ValueError(f"{unread[0]!r} is not read: remove the field or the record")
    return with_open_parts(record, images)


def with_images(example: Example, waiting: Sequence[Image], layout: str) -> Example:
    """Return an example with the images of its record's columns in their places.

    Raises:
        ValueError: naming an image that has none.
    """
    if waiting and example.kind in ("text", "ids"):
        raise ValueError(
            f"{waiting[0].name}: the layout {layout} has no prompt that an image could stand in"
        )
    return replace(example, messages=placed(example.messages, waiting))


def has_layout(record: Mapping[str, Any], layout: str, package: str = LAYOUTS) -> bool:
    """Return whether a record has the keys of a layout."""
    return _has(record, all_layouts(package)[layout].KEYS)


def mapped(
    record: Mapping[str, Any], fields: Mapping[Any, str], section: str = "data"
) -> Mapping[str, Any]:
    """Return a record under the names of a layout.

    Args:
        record: the record.
        fields: names here and the names in the file; `a.b` is the field `b` of a table `a`.
        section: the config section with the key `fields`, for messages.

    Raises:
        ValueError: naming the field that is not there, and those that are.
    """
    if not fields:
        return record
    rest = {key: value for key, value in record.items() if key not in fields.values()}
    return {**rest, **{own: _field(record, name, section) for own, name in fields.items()}}


def _field(record: Mapping[str, Any], name: str, section: str) -> Any:
    found: Any = record
    for part in (name,) if name in record else name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise ValueError(
                f"{name!r} ({section}.fields) is missing: the record has {_names(record)}"
            )
        found = found[part]
    return found


def _names(record: Mapping[str, Any]) -> str:
    """Return the first keys of a record, for messages."""
    shown = ", ".join(map(repr, list(record)[:20])) or "no field"
    return f"{shown}, ... ({len(record)} in all)" if len(record) > 20 else shown


def _has(record: Mapping[str, Any], keys: Sequence[str]) -> bool:
    # A row of a table has every column, null where it has no value.
    return all(record.get(key) is not None for key in keys)


def text_of(record: Mapping[str, Any], key: str) -> str:
    """Return a field that holds a text.

    Raises:
        ValueError: it holds something else, or a text that no tokenizer takes.
    """
    value = record.get(key)
    if not isinstance(value, str):
        shown = repr(value)
        shown = f"{shown[:80]} ..." if len(shown) > 80 else shown
        raise ValueError(f"{key!r} must be a text, found {shown}")
    if len(value) > MAX_CHARACTERS:
        raise ValueError(
            f"{key!r} has {len(value)} characters: more than {MAX_CHARACTERS}, the limit; remove the "
            "record or divide it"
        )
    for place, character in enumerate(value) if _is_odd(value) else ():
        if character == "\0" or "\ud800" <= character <= "\udfff":
            what = "a NUL character" if character == "\0" else "a lone surrogate"
            raise ValueError(f"{key!r} holds {what} at character {place + 1}: remove it")
    return value


def _is_odd(text: str) -> bool:
    """Return whether a text holds a NUL character or cannot be written as UTF-8."""
    try:
        return b"\0" in text.encode()
    except UnicodeEncodeError:
        return True


def response_of(record: Mapping[str, Any], key: str) -> str:
    """Return a field that holds a text to imitate.

    Raises:
        ValueError: as `text_of`; or it is blank.
    """
    text = text_of(record, key)
    if not text.strip():
        raise ValueError(f"{key!r} is empty: there is nothing to imitate")
    return text


def pair_of(record: Mapping[str, Any], prompt: str, response: str) -> Example:
    """Return the pair of two fields."""
    messages = (
        Message("user", text_of(record, prompt)),
        Message("assistant", response_of(record, response)),
    )
    return Example(messages, kind="pair")


def turns_of(value: Any, key: str, role_key: str, text_key: str) -> tuple[Message, ...]:
    """Return the turns of a list of tables.

    Args:
        value: the list.
        key: the field that holds it.
        role_key: the key of a turn's role.
        text_key: the key of a turn's text.

    Raises:
        ValueError: naming the turn: it is no table, its role is unknown, its text is none, or it has other
            keys that the model would not read.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ValueError(f"{key!r} must be a list of turns, found {repr(value)[:80]}")
    return tuple(
        _turn(turn, f"{key}[{number}]", role_key, text_key) for number, turn in enumerate(value)
    )


def _turn(turn: Any, place: str, role_key: str, text_key: str) -> Message:
    if not isinstance(turn, Mapping) or not _has(turn, (role_key, text_key)):
        raise ValueError(
            f"{place} must have {role_key!r} and {text_key!r}, found {repr(turn)[:80]}"
        )
    role = turn[role_key]
    if not isinstance(role, str) or role not in ROLES:
        raise ValueError(f"{place}: unknown role {role!r:.80}; known are {', '.join(ROLES)}")
    unread = [name for name in UNREAD_OF_TURN if turn.get(name)]
    if ROLES[role] == "assistant" and turn.get("weight", 1) not in (None, 1):
        unread.append("weight")
    if unread:
        raise ValueError(f"{place}: {unread[0]!r} is not read: remove it, or the record")
    content = turn[text_key]
    # A tuple is what `with_open_parts` makes of parts.
    parts: tuple[Any, ...] = content if isinstance(content, tuple) else (content,)
    is_trained = ROLES[role] == "assistant"
    if is_trained and any(isinstance(part, Image) for part in parts):
        raise ValueError(f"{place}: an assistant's turn with an image is not read: remove it")
    try:
        for text in parts:
            if not isinstance(text, Image):
                text_of({text_key: text}, text_key)
        if is_trained:
            response_of({text_key: "".join(parts)}, text_key)
        return Message.of(ROLES[role], *parts)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def integers_of(record: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """Return a field that holds a list of whole numbers, none below 0.

    Raises:
        ValueError: it holds something else.
    """
    value = record.get(key)
    if not isinstance(value, Sequence) or not all(type(n) is int and n >= 0 for n in value):
        raise ValueError(f"{key!r} must be a list of whole numbers, found {repr(value)[:80]}")
    return tuple(value)


def step_map_of(record: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the recorded denoising steps, if there are some."""
    return integers_of(record, "step_map") if record.get("step_map") is not None else None
