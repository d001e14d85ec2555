"""Arguments of `LLM`: prompts, conversations and sampling parameters, checked and converted.

Every unambiguous form is accepted; all others are refused with one sentence that names the accepted form.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import index
from typing import Any

from unmask.images import MARKER, Image, image_from
from unmask.message_parts import message_parts
from unmask.models.transformer import Model
from unmask.sampling_params import SamplingParams
from unmask.seeds import derive_seed
from unmask.types import Message, Prompt
from unmask.vllm_names import OTHER_NAMES, Rows, is_without_effect, nearest

ROLES = ("system", "user", "assistant")  # templates write any other word as it is
CONVERSATION = '[{"role": "user", "content": "..."}]'
# Keys of vLLM's prompts.
TABLES = ({"prompt"}, {"prompt_token_ids"})


def token_ids_of(prompt: Any, encode: Callable[[str], Sequence[int]]) -> tuple[int, ...]:
    """Return the token ids of a prompt.

    Args:
        prompt: a text, or token ids: a list, an array or a tensor of whole numbers.
        encode: text to token ids.
    """
    if isinstance(prompt, str):
        return tuple(encode(prompt))
    if isinstance(prompt, int) or getattr(prompt, "shape", None) == ():
        raise ValueError(f"the prompt {prompt} is a number: give its token ids, [{prompt}]")
    items = _items(prompt, "the prompt", "a text or a list of token ids")
    if any(map(_is_message, items)):
        raise ValueError("the prompt holds messages: llm.chat answers conversations, [messages]")
    try:
        return tuple(index(i) if hasattr(type(i), "__index__") else i for i in items)
    except TypeError:
        raise ValueError(
            f"{_shown(prompt)} is not a list of token ids: must be whole numbers"
        ) from None


def prompts_of(prompts: Any) -> list[Any]:
    """Return the prompts as a list, each a text or in the form it was given; one text is one prompt.

    vLLM's `{"prompt": text}` and `{"prompt_token_ids": ids}` are the text and the ids.
    """
    if isinstance(prompts, str) or _is_table(prompts):
        prompts = [prompts]
    found = _items(prompts, "prompts", "a list of texts or of lists of token ids")
    found = [next(iter(one.values())) if _is_table(one) else one for one in found]
    if any(map(_is_message, found)):
        raise ValueError(
            f"prompts = {_shown(prompts)} is a conversation: llm.chat answers those, and the prompts of "
            "llm.generate are texts or token ids"
        )
    return found


def conversations_of(
    conversations: Any, open_image: Callable[[Any, str], Image] = image_from
) -> list[tuple[Message, ...]]:
    """Return a list of conversations; a single conversation becomes the only element.

    Args:
        conversations: as `LLM.chat` accepts them.
        open_image: as of `message_parts`.
    """
    if isinstance(conversations, str):
        raise ValueError(
            f"chat({conversations[:80]!r}): a conversation is a list of messages, {CONVERSATION}; "
            "llm.generate continues texts"
        )
    found = _items(conversations, "conversations", "a list of conversations")
    if found and all(map(_is_message, found)):
        found = [found]
    return [_conversation(messages, open_image) for messages in found]


def user_message(text: str, images: Sequence[Image] = ()) -> Message:
    """Return a user's message with images at the markers of its text, or in front of a text without markers.

    Raises:
        ValueError: if there are images, and markers for more or fewer.
    """
    if images and MARKER not in text:
        return Message.of("user", *images, text)
    return Message("user", text, tuple(images))


def one_of(name: str, value: Any, other_name: str, other: Any) -> Any:
    """Return the value of an argument that has two names.

    Raises:
        TypeError: both are given.
    """
    if value is not None and other is not None:
        raise TypeError(f"{name} and {other_name}: two names of one argument; give one")
    return other if value is None else value


def sampling_of(sampling: Any, count: int) -> list[SamplingParams]:
    """Return the sampling parameters of each of `count` prompts, with a seed."""
    if sampling is None or isinstance(sampling, SamplingParams):
        return [_seeded(sampling or SamplingParams()) for _ in range(count)]
    found: list[Any] = list(sampling) if isinstance(sampling, list | tuple) else [sampling]  # pyright: ignore[reportUnknownArgumentType]
    for one in found:
        if not isinstance(one, SamplingParams):
            raise ValueError(
                f"sampling = {_shown(one)}: must be SamplingParams(max_tokens=..., ...), or a list "
                "with one for each prompt"
            )
    if len(found) != count:
        raise ValueError(
            f"{len(found)} SamplingParams for {count} prompts: give one, or one for each"
        )
    return list(map(_seeded, found))


def _seeded(sampling: SamplingParams) -> SamplingParams:
    """Return parameters with a seed, drawn if there is none."""
    if sampling.seed is not None:  # pyright: ignore[reportUnnecessaryComparison] - `LLM` alone reads None
        return sampling
    return replace(sampling, seed=secrets.randbits(63))


def each_response(
    prompts: Sequence[Prompt], sampling: Sequence[SamplingParams]
) -> tuple[list[Prompt], list[SamplingParams]]:
    """Return prompt and parameters of every response, `n` per prompt with seeds of their own."""
    pairs = [
        (replace(prompt, uid=uid), replace(one, n=1, seed=derive_seed(one.seed, index)))
        for uid, (prompt, one) in enumerate(zip(prompts, sampling, strict=True))
        for index in range(one.n)
    ]
    return [prompt for prompt, _ in pairs], [one for _, one in pairs]


def refuse_unknown(call: str, takes: Sequence[str], unknown: Mapping[str, Any], rows: Rows) -> None:
    """Refuse keyword arguments that a call does not have.

    Args:
        call: name of the call.
        takes: the arguments that it has.
        unknown: the others that were given.
        rows: arguments of vLLM's call.

    Raises:
        ValueError: naming an argument of vLLM, its value and what to give in place of it.
        TypeError: naming any other argument, the nearest one, and the argument that takes it.
    """
    for name, value in unknown.items():
        if is_without_effect(name, value, rows, f"{call}: "):
            continue
        field = OTHER_NAMES.get(name, name)
        if field in SamplingParams.__dataclass_fields__:
            raise TypeError(f"{call} takes no {name}: give SamplingParams({field}=...) as sampling")
        near = nearest(name, [*takes, *rows])
        meant = f"did you mean {near}? It takes" if near else "it takes"
        raise TypeError(f"{call} takes no {name}; {meant} {', '.join(takes[:-1])} and {takes[-1]}")


def check_model(model: Any) -> None:
    """Refuse values that do not name a checkpoint.

    Raises:
        ValueError: if it is neither a path, nor a hub id, nor a loaded model.
    """
    is_path = hasattr(model, "__fspath__") or (isinstance(model, str) and model.strip())
    if not is_path and not isinstance(model, Model):
        raise ValueError(
            f"model = {_shown(model)}: must be the directory of a checkpoint, a hub id, or a model "
            "from unmask.load_model"
        )


def _conversation(messages: Any, open_image: Callable[[Any, str], Image]) -> tuple[Message, ...]:
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError(
            "chat takes a list of conversations, each a list of messages: "
            f"[{CONVERSATION}], not {_shown(messages)} among them"
        )
    return tuple(_message(n, message, open_image) for n, message in enumerate(messages))  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def _message(number: int, message: Any, open_image: Callable[[Any, str], Image]) -> Message:
    """Return a message; `number` is its index in the conversation."""
    is_record = isinstance(message, Message)
    given = {"role": message.role, "content": message.content} if is_record else message
    contents: Any = str if is_record else (str, list, tuple)
    is_right = isinstance(given, Mapping) and set(given) == {"role", "content"}  # pyright: ignore[reportUnknownArgumentType]
    if not is_right or not isinstance(given["content"], contents):
        raise ValueError(
            f"the message {_shown(message)}: must have a role and a content, a text or a list of parts, and "
            'nothing else: {"role": "user", "content": "..."}'
        )
    if given["role"] not in ROLES:
        raise ValueError(f"the role {_shown(given['role'])} must be one of {', '.join(ROLES)}")
    if is_record:
        return message
    parts = message_parts(given["content"], f"messages[{number}].content", open_image)
    return Message.of(given["role"], *parts)  # pyright: ignore[reportArgumentType]


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) in TABLES  # pyright: ignore[reportUnknownArgumentType]


def _is_message(value: Any) -> bool:
    return isinstance(value, Message | Mapping)


def _items(values: Any, name: str, wanted: str) -> list[Any]:
    if isinstance(values, bytes | Mapping | Message | set) or not isinstance(values, Iterable):
        raise ValueError(f"{name} = {_shown(values)}: must be {wanted}")
    return list(values)  # pyright: ignore[reportUnknownArgumentType]


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
