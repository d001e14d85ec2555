"""Bodies of requests: every field of the sampler and of OpenAI is used, without effect, or refused."""

import json
from typing import Any

import pytest
from openai.types import completion_create_params as text_fields
from openai.types.chat import completion_create_params as chat_fields

from tests.toy import toy_checkpoint
from unmask.engine.llm import LLM
from unmask.presets import preset
from unmask.sampling_params import SamplingParams
from unmask.seeds import derive_seed
from unmask.server.errors import ApiError
from unmask.server.params import ServerParams
from unmask.server.request import (
    FLAGS,
    NEUTRAL,
    NO_EFFECT,
    Asked,
    chat_prompts,
    read_request,
    text_prompts,
)

USED = {*SamplingParams.__dataclass_fields__, *FLAGS}
USED |= {
    "template",
    "response_format",
    "model",
    "messages",
    "prompt",
    "max_completion_tokens",
    "stream_options",
}


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return LLM(toy_checkpoint(tmp_path_factory.mktemp("toy")))


def read(llm: LLM, body: dict[str, Any], params: ServerParams | None = None) -> Asked:
    text = json.dumps(body).encode()
    return read_request(text, llm, params or ServerParams("toy"), "prompt", text_prompts, 64)


def test_every_field_of_openai_s_client_has_a_treatment() -> None:
    fields = {
        *text_fields.CompletionCreateParamsNonStreaming.__annotations__,
        *text_fields.CompletionCreateParamsBase.__annotations__,
        *chat_fields.CompletionCreateParamsBase.__annotations__,
    }
    assert len(fields) > 30
    assert fields - USED - NO_EFFECT - NEUTRAL.keys() == set()
    assert not USED & NO_EFFECT and not USED & NEUTRAL.keys() and not NO_EFFECT & NEUTRAL.keys()


def test_responses_have_the_seeds_of_generate(llm: LLM) -> None:
    asked = read(llm, {"prompt": ["1", "2"], "n": 2, "seed": 9})
    seeds = [derive_seed(9, 0), derive_seed(9, 1)] * 2
    assert [(ask.prompt.token_ids, ask.sampling.seed) for ask in asked.asks] == [
        (ids, seed) for ids, seed in zip([(3,), (3,), (4,), (4,)], seeds, strict=True)
    ]
    assert all(ask.sampling.n == 1 for ask in asked.asks)


def test_the_server_s_sampling_is_the_default_of_each_field(llm: LLM) -> None:
    params = ServerParams("toy", preset("llada_official", max_tokens=20))
    asked = read(llm, {"prompt": "1", "temperature": 0.5}, params).sampling
    assert (asked.strategy, asked.temperature, asked.max_tokens) == ("static", 0.5, 20)


def test_null_is_not_given(llm: LLM) -> None:
    names = [*SamplingParams.__dataclass_fields__, *FLAGS, *NEUTRAL, "stream_options", "model"]
    body: dict[str, Any] = {**dict.fromkeys(names), "prompt": "1", "seed": 3}
    assert read(llm, body) == read(llm, {"prompt": "1", "seed": 3})


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_fields_that_would_change_a_response_are_refused_by_name(name: str, llm: LLM) -> None:
    for value in NEUTRAL[name][0]:
        assert read(llm, {"prompt": "1", name: value})
    with pytest.raises(ApiError) as caught:
        read(llm, {"prompt": "1", name: "something"})
    assert caught.value.param == name and caught.value.status == 400


def test_contents_of_messages_may_be_parts(llm: LLM) -> None:
    parts = [{"type": "text", "text": "1+"}, {"type": "text", "text": "2"}]
    params = ServerParams("toy")
    (of_parts,) = chat_prompts(llm, [{"role": "user", "content": parts}], params)
    (of_text,) = chat_prompts(llm, [{"role": "user", "content": "1+2"}], params)
    assert of_parts == of_text and of_text.token_ids == (3, 12, 4)
