"""The body of a request: OpenAI's fields and the sampler's, read into what the engine is asked for.

Every field is used, or has no effect here and is listed as such, or is refused by name. `null` is the same
as not given.
"""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unmask.bounds import check_fields
from unmask.checkpoints.tokenizer import encode
from unmask.engine.events import Streams
from unmask.engine.llm import LLM
from unmask.engine.llm_arguments import conversations_of, token_ids_of
from unmask.json_files import parse_object
from unmask.sampling_params import SamplingParams
from unmask.seeds import derive_seed
from unmask.server.errors import ApiError, refusal
from unmask.server.images import image_opener
from unmask.server.job import Ask
from unmask.server.params import ServerParams
from unmask.types import Prompt
from unmask.vllm_names import CHATTING, SAMPLING, Rows, is_without_effect, nearest

# Sent by clients, without effect on a response.
NO_EFFECT = {
    *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"),
    *("prompt_cache_retention", "prompt_cache_options", "parallel_tool_calls"),
}
MISSING = "not implemented"
# Fields that would change a response in a way that is not implemented: accepted with these values only.
NEUTRAL: Rows = {
    **{name: SAMPLING[name] for name in ("presence_penalty", "frequency_penalty")},
    **{name: SAMPLING[name] for name in ("repetition_penalty", "logit_bias", "best_of")},
    "tools": CHATTING["tools"],
    "tool_choice": (("none", "auto"), MISSING),
    "functions": (([],), MISSING),
    "function_call": (("none", "auto"), MISSING),
    "modalities": ((["text"],), MISSING),
    "moderation": ((), MISSING),
    "audio": ((), MISSING),
    "prediction": ((), MISSING),
    "reasoning_effort": (("none",), MISSING),
    "verbosity": ((), MISSING),
    "web_search_options": ((), MISSING),
    "top_logprobs": ((0,), "only the written tokens have log-probabilities; give 0"),
    "echo": ((False,), "the prompt is not repeated or scored"),
    "suffix": (("",), "give a template: text with gaps"),
}
ROLES = ("system", "developer", "user", "assistant")


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """What is sent of a response, and how.

    Raises:
        ValueError: a field is no bool, or a canvas is asked for without a stream.
    """

    stream: bool = False
    """Send text as blocks are finished."""
    stream_canvas: bool = False
    """In a stream, send what each denoising step wrote, too."""
    include_usage: bool = False
    """Send the counts of tokens in a last chunk."""
    logprobs: bool = False
    """Send the tokens with their log-probabilities."""
    return_step_maps: bool = False
    """Send the denoising step of each token, counted from 1."""
    return_token_ids: bool = False
    """Send the ids of prompt and response."""

    def __post_init__(self) -> None:
        """Check the fields."""
        check_fields(self)
        if self.stream_canvas and not self.stream:
            raise ValueError("stream_canvas = True: goes with stream = true")

    @property
    def streams(self) -> Streams | None:
        """The events that the engine returns before the end."""
        if not self.stream:
            return None
        return "canvas" if self.stream_canvas else "text"


FLAGS = [name for name in AnswerOptions.__dataclass_fields__ if name != "include_usage"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it was understood.

    Attributes:
        prompts: with `token_ids`.
        sampling: of all responses, with `n` and the seed.
        options: what is sent.
    """

    prompts: tuple[Prompt, ...]
    sampling: SamplingParams
    options: AnswerOptions

    @property
    def asks(self) -> list[Ask]:
        """The responses: `n` to each prompt, as `LLM.generate` writes them."""
        of_all = self.sampling
        seeds = [derive_seed(of_all.seed, index) for index in range(of_all.n)]
        ones = [replace(of_all, n=1, seed=seed) for seed in seeds]
        return [Ask(prompt, one) for prompt in self.prompts for one in ones]


Prompts = Callable[[LLM, Any, ServerParams], list[Prompt]]


def read_request(
    text: bytes, llm: LLM, params: ServerParams, field: str, prompts: Prompts, max_open: int
) -> Asked:
    """Read the body of a request and check it against the model.

    Args:
        text: the body.
        llm: its tokenizer and the limits of its engine are used.
        params: defaults and the model's name.
        field: the field with the prompt, `messages` or `prompt`.
        prompts: converts the value of that field.
        max_open: most responses that may run and wait.

    Raises:
        ApiError: naming the field at fault.
    """
    try:
        given = parse_object(text, "the body")
    except ValueError as error:
        raise ApiError(400, str(error), code="invalid_json") from None
    body = {name: value for name, value in given.items() if value is not None}
    _check_model(body.pop("model", params.model_name), params.model_name)
    _drop_neutral(body)
    _take_response_format(body)
    options = _options(body)
    if field not in body:
        raise ApiError(400, f"{field}: must be given", field, "missing")
    try:
        found = prompts(llm, body.pop(field), params)
    except (ValueError, TypeError) as error:
        raise ApiError(400, str(error), field, "invalid_value") from None
    sampling = _sampling(body, params.sampling, llm, found)
    if sampling.n * len(found) > max_open:
        raise ApiError(
            400,
            f"n = {sampling.n} responses to {len(found)} prompts: this server writes {max_open} at most",
            "n",
        )
    _check_fit(llm, found, sampling, field)
    return Asked(tuple(found), sampling, options)


def chat_prompts(llm: LLM, messages: Any, params: ServerParams) -> list[Prompt]:
    """Return the rendered conversation of `messages`, as the only prompt."""
    if not isinstance(messages, list) or not messages:
        raise ValueError('messages: must be a list, [{"role": "user", "content": "..."}]')
    stated = [_message(message) for message in messages]
    (conversation,) = conversations_of(stated, image_opener(params))
    return [llm.prompt(conversation)]


def text_prompts(llm: LLM, prompt: Any, _: ServerParams) -> list[Prompt]:
    """Return the prompts of `prompt`: a text, token ids, or a list of either."""
    items = prompt if isinstance(prompt, list) else []
    is_one = isinstance(prompt, str) or (items and all(isinstance(item, int) for item in items))
    found = [prompt] if is_one else prompt
    if not isinstance(found, list) or not found:
        raise ValueError("prompt: must be a text, a list of token ids, or a list of either")
    tokenizer = llm.require_tokenizer()
    ids = [token_ids_of(item, lambda text: encode(text, tokenizer)) for item in found]
    return [Prompt("serve", 0, (), one) for one in ids]


def _message(message: Any) -> dict[str, Any]:
    """Return a message with the fields that are given, and a role that templates have."""
    if not isinstance(message, dict):
        raise ValueError(f"messages: {message!r:.80} is no object with a role and a content")
    stated = {name: value for name, value in message.items() if value is not None}
    role = stated.get("role")
    if role not in ROLES:
        raise ValueError(f"messages: role = {role!r:.80} must be one of {', '.join(ROLES)}")
    return {**stated, "role": "system" if role == "developer" else role}


def _check_model(name: Any, served: str) -> None:
    if name != served:
        raise ApiError(
            404,
            f"model = {name!r:.200}: this server has {served!r}",
            "model",
            "model_not_found",
        )


def _drop_neutral(body: dict[str, Any]) -> None:
    """Remove the fields without effect; refuse those that would have one."""
    for name in NO_EFFECT & body.keys():
        del body[name]
    for name in NEUTRAL.keys() & body.keys():
        try:
            is_without_effect(name, body.pop(name), NEUTRAL)
        except ValueError as error:
            raise ApiError(400, str(error), name, "unsupported_value") from None


def _take_response_format(body: dict[str, Any]) -> None:
    """Replace OpenAI's `response_format` by the sampler's `json_schema`."""
    value = body.pop("response_format", {"type": "text"})
    if value == {"type": "text"}:
        return
    stated = value.get("json_schema") if isinstance(value, dict) else None
    schema = stated.get("schema") if isinstance(stated, dict) else None
    if not isinstance(schema, dict) or value.get("type") != "json_schema":
        raise ApiError(
            400,
            f"response_format = {value!r:.80}: must have the type text, or json_schema with the schema in "
            "json_schema.schema",
            "response_format",
            "invalid_value",
        )
    if "json_schema" in body:
        raise ApiError(400, "json_schema: goes without response_format", "json_schema")
    body["json_schema"] = json.dumps(schema)


def _options(body: dict[str, Any]) -> AnswerOptions:
    """Remove the fields of `AnswerOptions` from a body and return them."""
    found = {name: body.pop(name) for name in FLAGS if name in body}
    # Of /v1/completions: a number of alternatives for each token.
    count = found.get("logprobs")
    if type(count) is int:
        if count:
            raise ApiError(
                400,
                f"logprobs = {count}: only the written tokens have log-probabilities; give 0",
                "logprobs",
                "unsupported_value",
            )
        found["logprobs"] = True
    stream_options = body.pop("stream_options", {})
    if not isinstance(stream_options, dict) or not stream_options.keys() <= {
        *("include_usage", "include_obfuscation")
    }:
        raise ApiError(
            400,
            f"stream_options = {stream_options!r:.80}: must be an object with include_usage",
            "stream_options",
            "invalid_value",
        )
    if "include_usage" in stream_options:
        found["include_usage"] = stream_options["include_usage"]
    try:
        return AnswerOptions(**found)
    except ValueError as error:
        raise ApiError(400, str(error), str(error).partition(" ")[0], "invalid_value") from None


def _sampling(
    body: Mapping[str, Any], default: SamplingParams, llm: LLM, prompts: Sequence[Prompt]
) -> SamplingParams:
    """Return the sampling parameters of what is left of a body."""
    fields = dict(body)
    template = fields.pop("template", None)
    _check_template(template, fields)
    if "max_completion_tokens" in fields:
        most = fields.pop("max_completion_tokens")
        if fields.setdefault("max_tokens", most) != most:
            raise ApiError(
                400,
                f"max_completion_tokens = {most!r:.80} and max_tokens = {fields['max_tokens']!r:.80}: "
                "two names of one field; give one",
                "max_completion_tokens",
                "invalid_value",
            )
    known = (*SamplingParams.__dataclass_fields__, *SAMPLING, "ignore_eos")
    for name in fields:
        if name not in known:
            near = nearest(name, (*known, *NEUTRAL, *FLAGS, "template", "response_format"))
            meant = f"; did you mean {near}?" if near else ""
            raise ApiError(400, f"{name:.80}: no such field{meant}", name, "unknown_parameter")
    if "max_tokens" not in fields:  # at least 1, so that a prompt without room is refused below
        room = llm.model.spec.max_length - max(len(prompt.token_ids) for prompt in prompts)
        fields["max_tokens"] = max(1, min(default.max_tokens, room))
    fields.setdefault("seed", secrets.randbits(63))
    try:
        sampling = replace(default, **fields)
        sampling = sampling if template is None else llm.template(template, sampling)
    except ValueError as error:
        raise refusal(error, "template" if template else None) from None
    if not -(2**63) <= sampling.seed < 2**63:
        raise ApiError(400, "seed: must have 64 bits", "seed", "invalid_value")
    if any("\ud800" <= character <= "\udfff" for stop in sampling.stop for character in stop):
        raise ApiError(400, "stop: a half of a surrogate pair is no text", "stop", "invalid_value")
    return sampling


def _check_template(template: Any, fields: Mapping[str, Any]) -> None:
    if template is None:
        return
    if not isinstance(template, str):
        raise ApiError(
            400, "template: must be a text with gaps, [[8]]", "template", "invalid_value"
        )
    for name in ("max_tokens", "pinned"):
        if name in fields:
            raise ApiError(
                400, f"{name}: goes without template, which decides it", name, "invalid_value"
            )


def _check_fit(llm: LLM, prompts: Sequence[Prompt], sampling: SamplingParams, field: str) -> None:
    """Refuse what the engine would refuse, before anything is queued."""
    longest = max(len(prompt.token_ids) for prompt in prompts)
    if longest >= llm.model.spec.max_length:
        raise ApiError(
            400,
            f"{field}: {longest} tokens, but the model has {llm.model.spec.max_length} positions for prompt "
            "and response",
            field,
            "context_length_exceeded",
        )
    for prompt in prompts:
        try:
            # Builds the automaton of structured output here, not in the engine's thread.
            llm.engine.resolve(prompt, sampling)
        except ValueError as error:
            raise refusal(error, field) from None
