"""The HTTP interface, by OpenAI's own client: answers equal the offline engine's, errors name their field."""

import json
import random
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.server.served import HTTP, NAME, Served, served
from tests.toy import toy_model
from unmask.engine.llm import LLM, Generation
from unmask.engine.options import EngineParams
from unmask.sampling_params import SamplingParams
from unmask.server.app import build_app
from unmask.server.params import ServerParams

BODY: dict[str, Any] = {"model": NAME, "max_tokens": 40, "seed": 3}
OPEN = {"extra_body": {"stop_token_ids": []}}  # responses of full length


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    params = EngineParams(max_sequences=8)
    with served(tmp_path_factory.mktemp("toy"), params, max_body_bytes=20_000) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Served) -> OpenAI:
    return server.client()


def offline(server: Served, prompt: Any, **fields: Any) -> list[Generation]:
    sampling = SamplingParams(**{"max_tokens": 40, "seed": 3, **fields})
    return [*server.offline.generate([prompt], sampling)[0].outputs]


def test_a_completion_is_the_offline_response(server: Served, client: OpenAI) -> None:
    found = client.completions.create(prompt="1+2=", **BODY)
    (expected,) = offline(server, "1+2=")
    (choice,) = found.choices
    assert choice.text == expected.text
    assert choice.finish_reason == expected.finish
    assert found.object == "text_completion" and found.model == NAME
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (
        4,
        len(expected.token_ids),
    )


def test_a_chat_is_the_offline_response(server: Served, client: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "1+2="}], "name": None}]
    found = client.chat.completions.create(messages=messages, **BODY)
    (expected,) = server.offline.chat(
        [{"role": "user", "content": "1+2="}], SamplingParams(max_tokens=40, seed=3)
    )
    assert found.choices[0].message.content == expected.text
    assert found.choices[0].message.role == "assistant"


def test_n_responses_to_each_prompt_are_those_of_generate(server: Served, client: OpenAI) -> None:
    prompts = ["1+2=", "3"]
    found = client.completions.create(prompt=prompts, n=3, **BODY)
    results = server.offline.generate(prompts, SamplingParams(max_tokens=40, seed=3, n=3))
    expected = [one for result in results for one in result.outputs]
    assert [choice.index for choice in found.choices] == list(range(6))
    assert [choice.text for choice in found.choices] == [one.text for one in expected]
    assert len({choice.text for choice in found.choices}) > 3


def test_the_sampler_s_fields_are_taken_from_the_body(server: Served, client: OpenAI) -> None:
    fields: dict[str, Any] = {
        **{"strategy": "static", "denoising_steps": 2, "block_size": 8, "top_k": -1, "min_p": 0.01},
        **{"confidence": "filtered", "stop_token_ids": [], "temperature": 0.7, "top_p": 0.9},
    }
    answer = {"return_step_maps": True, "return_token_ids": True}
    found = client.completions.create(prompt=[3, 12, 4], extra_body={**fields, **answer}, **BODY)
    (expected,) = offline(server, [3, 12, 4], **{**fields, "stop_token_ids": ()})
    choice: Any = found.choices[0]
    assert choice.text == expected.text
    assert choice.token_ids == list(expected.token_ids)
    assert choice.prompt_token_ids == [3, 12, 4]
    assert choice.meta_info["step_maps"] == list(expected.step_map)
    assert choice.meta_info["num_forwards"] == expected.num_forwards
    assert choice.meta_info["tokens_per_forward"] == expected.tokens_per_forward
    assert choice.meta_info["seed"] == 3


def test_logprobs_are_those_of_the_offline_response(server: Served, client: OpenAI) -> None:
    (expected,) = offline(server, "1+2=")
    text = client.completions.create(prompt="1+2=", logprobs=0, **BODY).choices[0]
    assert text.logprobs is not None
    assert text.logprobs.token_logprobs == list(expected.logprobs)
    assert text.logprobs.tokens == server.offline.pieces(expected.token_ids)
    for offset, token in zip(text.logprobs.text_offset or (), text.logprobs.tokens, strict=True):
        assert text.text[offset:].startswith(token) or token.startswith("<")
    messages: Any = [{"role": "user", "content": "1+2="}]
    chat = client.chat.completions.create(messages=messages, logprobs=True, **BODY).choices[0]
    assert chat.logprobs is not None and chat.logprobs.content is not None
    assert [one.logprob for one in chat.logprobs.content] == list(expected.logprobs)
    assert [
        bytes(one.bytes or ()).decode() for one in chat.logprobs.content
    ] == text.logprobs.tokens
    in_chunks = list(client.completions.create(prompt="1+2=", logprobs=0, stream=True, **BODY))
    assert in_chunks[-1].choices[0].logprobs == text.logprobs


def test_stop_texts_end_a_response(server: Served, client: OpenAI) -> None:
    (whole,) = offline(server, "1+2=", stop_token_ids=())
    stop = whole.text[13:15]
    (expected,) = offline(server, "1+2=", stop_token_ids=(), stop=(stop, "never seen"))
    found = client.completions.create(prompt="1+2=", stop=[stop, "never seen"], **OPEN, **BODY)
    assert found.choices[0].text == expected.text == whole.text[: whole.text.index(stop)]
    assert found.choices[0].finish_reason == "stop"
    one = client.completions.create(prompt="1+2=", stop=stop, **OPEN, **BODY)
    assert one.choices[0].text == expected.text


def test_streams_are_the_whole_answers_in_pieces(server: Served, client: OpenAI) -> None:
    (whole,) = offline(server, "1+2=", stop_token_ids=())
    for stop in ([], [whole.text[13:15]]):
        expected = offline(server, "1+2=", n=2, stop_token_ids=(), stop=tuple(stop))
        chunks = list(
            client.completions.create(
                prompt="1+2=",
                n=2,
                stop=stop,
                stream=True,
                stream_options={"include_usage": True},
                **OPEN,
                **BODY,
            )
        )
        *pieces, last = chunks
        assert last.choices == [] and last.usage is not None
        assert last.usage.completion_tokens == sum(len(one.token_ids) for one in expected)
        assert len({chunk.id for chunk in chunks}) == 1
        for index, one in enumerate(expected):
            mine = [c for chunk in pieces for c in chunk.choices if c.index == index]
            assert "".join(choice.text for choice in mine) == one.text
            assert [choice.finish_reason for choice in mine[-1:]] == [one.finish]
            assert not any(choice.finish_reason for choice in mine[:-1])
            assert len(mine) > 1


def test_a_chat_is_streamed(server: Served, client: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "1+2="}]
    chunks = list(client.chat.completions.create(messages=messages, stream=True, **OPEN, **BODY))
    (expected,) = offline(server, "1+2=", stop_token_ids=())
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected.text
    assert chunks[-1].choices[0].finish_reason == expected.finish


@pytest.mark.parametrize("is_chat", [False, True])
def test_the_canvas_is_streamed(is_chat: bool, server: Served, client: OpenAI) -> None:
    """Laid over masks, the writes are the response; its text still comes in pieces."""
    extra = {"stream_canvas": True, "stop_token_ids": [], "block_size": 8}
    if is_chat:
        messages: Any = [{"role": "user", "content": "1+2="}]
        made: Any = client.chat.completions.create(
            messages=messages, n=2, stream=True, extra_body=extra, **BODY
        )
    else:
        made = client.completions.create(prompt="1+2=", n=2, stream=True, extra_body=extra, **BODY)
    chunks: list[Any] = list(made)
    expected = offline(server, "1+2=", n=2, stop_token_ids=(), block_size=8)
    for index, one in enumerate(expected):
        mine = [chunk for chunk in chunks if chunk.choices[0].index == index]
        first, *steps = [chunk.canvas for chunk in mine if getattr(chunk, "canvas", None)]
        head = {"step": 0, "length": 44, "block_size": 8, "offset": 4}
        assert first == {**head, "writes": []}
        tokens: dict[int, int] = {}
        for canvas in steps:
            for write in canvas["writes"]:
                position = write["position"]
                tokens[position] = write["token_id"]
                if position < 40:
                    assert one.step_map[position] == canvas["step"]
                    assert one.logprobs[position] == write["logprob"]
                    assert one.confidences[position] == pytest.approx(write["confidence"])
                    assert write["text"] == server.offline.pieces([write["token_id"]])[0]
        assert [tokens[position] for position in range(40)] == list(one.token_ids)
        texts = [c.choices[0].delta.content if is_chat else c.choices[0].text for c in mine]
        assert "".join(text or "" for text in texts) == one.text
        assert any(texts)  # how many depends on how fast they are read


def test_gaps_of_a_template_are_filled(server: Served, client: OpenAI) -> None:
    template = "a=[[3]]; b=[[9]];"
    sampling = SamplingParams(seed=3, stop_token_ids=())
    (expected,) = server.offline.generate(["1"], server.offline.template(template, sampling))
    body: dict[str, Any] = {"model": NAME, "seed": 3, "prompt": "1"}
    extra = {"template": template, "stop_token_ids": [], "return_token_ids": True}
    found: Any = client.completions.create(extra_body=extra, **body).choices[0]
    assert found.text == expected.text and found.token_ids == list(expected.token_ids)
    pinned = [[0, 19], [1, 14]]
    short = {**body, "max_tokens": 6}
    extra = {"pinned": pinned, "stop_token_ids": []}
    one = client.completions.create(extra_body=extra, **short).choices[0]
    (expected,) = offline(server, "1", max_tokens=6, pinned=pinned, stop_token_ids=())
    assert one.text == expected.text
    made: Any = client.completions.create(
        stream=True, extra_body={**extra, "stream_canvas": True}, **short
    )
    first, *steps = [chunk.canvas for chunk in made if getattr(chunk, "canvas", None)]
    assert [[w["position"], w["token_id"]] for w in first["writes"]] == pinned
    assert not {w["position"] for canvas in steps for w in canvas["writes"]} & {0, 1}


def test_structured_output_matches(server: Served, client: OpenAI) -> None:
    regex = "[0-9]{3}=(ab|cd)+"
    (expected,) = offline(server, "1", regex=regex)
    extra = {"regex": regex}
    made = list(client.completions.create(prompt="1", stream=True, extra_body=extra, **BODY))
    text = "".join(chunk.choices[0].text for chunk in made)
    assert text == expected.text and re.fullmatch(regex, text)
    (whole,) = offline(server, "1", regex="[0-9]{3}", max_tokens=3)
    tight = {**BODY, "max_tokens": 3}
    found = client.completions.create(prompt="1", extra_body={"regex": "[0-9]{3}"}, **tight)
    assert (whole.finish, found.choices[0].finish_reason) == ("length", "stop"), "it is complete"
    schema = {"enum": [125, 3478, -9]}
    messages: Any = [{"role": "user", "content": "1"}]
    form: Any = {"type": "json_schema", "json_schema": {"name": "number", "schema": schema}}
    chat = client.chat.completions.create(messages=messages, n=3, response_format=form, **BODY)
    assert {int(choice.message.content or "") for choice in chat.choices} <= {125, 3478, -9}


def test_without_a_seed_one_is_drawn_and_returned(server: Served, client: OpenAI) -> None:
    found: list[Any] = [
        client.completions.create(model=NAME, prompt="1", max_tokens=30, **OPEN).choices[0]
        for _ in range(2)
    ]
    assert found[0].text != found[1].text
    (again,) = offline(
        server, "1", max_tokens=30, seed=found[0].meta_info["seed"], stop_token_ids=()
    )
    assert again.text == found[0].text


def test_max_tokens_is_as_many_as_fit_if_not_given(client: OpenAI) -> None:
    found = client.completions.create(model=NAME, prompt="1" * 220, seed=1, **OPEN)
    assert found.usage is not None and found.usage.total_tokens == 256


def test_fields_without_effect_are_accepted(client: OpenAI) -> None:
    found = client.chat.completions.create(
        messages=[{"role": "developer", "content": "1"}, {"role": "user", "content": "2"}],
        user="me",
        metadata={"a": "b"},
        store=True,
        presence_penalty=0,
        frequency_penalty=0.0,
        response_format={"type": "text"},
        max_completion_tokens=40,
        extra_body={"stop": None, "tools": None},
        **BODY,
    )
    assert found.choices[0].message.content is not None


def test_models_are_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [NAME]
    assert client.models.retrieve(NAME).id == NAME
    with pytest.raises(openai.NotFoundError, match="not served"):
        client.models.retrieve("other/one")


CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"max_tokens": -1}, "max_tokens", "at least 1"),
    ({"max_tokens": "4"}, "max_tokens", "whole number"),
    ({"max_tokens": 1000}, "max_tokens", "lower max_tokens"),
    ({"max_tokens": 4, "max_completion_tokens": 5}, "max_completion_tokens", "two names"),
    ({"prompt": "1" * 300}, "prompt", "300 tokens"),
    ({"prompt": "unknown character: \u2603"}, "prompt", "no token for"),
    ({"prompt": [3, 99]}, "prompt", "outside"),
    ({"prompt": [3, 1.5]}, "prompt", "is a number"),
    ({"prompt": {"a": 1}}, "prompt", "must be a text"),
    ({"prompt": []}, "prompt", "must be a text"),
    ({"prompt": None}, "prompt", "must be given"),
    ({"temperature": -0.5}, "temperature", "greedy"),
    ({"temperature": "hot"}, "temperature", "a number"),
    ({"top_p": 0}, "top_p", "greedy"),
    ({"top_k": -2}, "top_k", "at least -1"),
    ({"n": 0}, "n", "at least 1"),
    ({"n": 10**9}, "n", "at most"),
    ({"seed": 2**64}, "seed", "64 bits"),
    ({"seed": 10**400}, "seed", "64 bits"),
    ({"stop": [""]}, "stop", "empty"),
    ({"stop": ["\ud800"]}, "stop", "surrogate"),
    ({"stop": 3}, "stop", "tuple"),
    ({"strategy": "best"}, "strategy", "one of"),
    ({"guidance": 1.0}, "guidance", "classifier-free"),
    ({"steps": 4}, "steps", "did you mean denoising_steps"),
    ({"nonsense": 4}, "nonsense", "no such field"),
    ({"logprobs": 3}, "logprobs", "only the written tokens"),
    ({"logprobs": "yes"}, "logprobs", "True or False"),
    ({"presence_penalty": 0.5}, "presence_penalty", "give 0"),
    ({"echo": True}, "echo", "prompt"),
    ({"stream": 1}, "stream", "True or False"),
    ({"stream": True, "stream_options": 4}, "stream_options", "include_usage"),
    ({"template": 3, "max_tokens": None}, "template", "text with gaps"),
    ({"template": "none", "max_tokens": None}, "template", "[[8]]"),
    ({"template": "[[3]]"}, "max_tokens", "goes without template"),
    ({"pinned": [[50, 3]]}, "pinned", "raise max_tokens"),
    ({"pinned": [[1, 99]]}, "pinned", "outside"),
    ({"pinned": [[1, 3], [1, 4]]}, "pinned", "twice"),
    ({"pinned": 4}, "pinned", "pairs"),
    ({"stream_canvas": True}, "stream_canvas", "goes with stream"),
    ({"response_format": {"type": "json_object"}}, "response_format", "json_schema.schema"),
    ({"response_format": 4}, "response_format", "json_schema.schema"),
    ({"json_schema": '{"type": "integer", "minimum": 3}'}, "json_schema", "minimum"),
    ({"json_schema": '{"enum": ["not in the vocabulary"]}'}, "json_schema", ""),
    ({"regex": "(" * 50}, "regex", ""),
    ({"regex": "[0-9]{30}", "max_tokens": 9}, "regex", "max_tokens"),
    ({"regex": "1", "stop": "2"}, "regex", "stop"),
    ({"regex": "1", "json_schema": "{}"}, "regex", "leave one out"),
    ({"return_step_maps": "yes"}, "return_step_maps", "True or False"),
]


@pytest.mark.parametrize(("change", "param", "message"), CASES)
def test_a_field_that_is_not_accepted_is_named(
    change: dict[str, Any], param: str, message: str, server: Served
) -> None:
    body = {"prompt": "1+2=", **BODY, **change}
    headers = {"content-type": "application/json"}
    # In ASCII: other encoders refuse half a character.
    content = json.dumps(body)
    found = HTTP.post(f"{server.url}/v1/completions", content=content, headers=headers)
    assert found.status_code == 400, found.text
    error = found.json()["error"]
    assert error["param"] == param and message in error["message"]
    assert error["type"] == "invalid_request_error"
    assert "Traceback" not in found.text


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "must be a list"),
        ("hello", "must be a list"),
        (["hello"], "no object"),
        ([{"role": "user"}], "must have a role and a content"),
        ([{"role": "tool", "content": "x"}], "must be one of"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "type text"),
        (
            [{"role": "user", "content": [{"type": "text"}]}],
            r"content\[0\]: must be a part of type text",
        ),
        ([{"role": "user", "content": "1", "tool_calls": [1]}], "nothing else"),
    ],
)
def test_messages_that_are_not_accepted_are_named(
    messages: Any, message: str, client: OpenAI
) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        client.chat.completions.create(messages=messages, **BODY)
    assert caught.value.param == "messages"


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="toy") as caught:
        client.completions.create(model="gpt-9", prompt="1")
    assert caught.value.code == "model_not_found" and caught.value.param == "model"


def test_tools_are_refused_by_name(client: OpenAI) -> None:
    tools: Any = [{"type": "function", "function": {"name": "f"}}]
    messages: Any = [{"role": "user", "content": "1"}]
    with pytest.raises(openai.BadRequestError, match="tools") as caught:
        client.chat.completions.create(messages=messages, tools=tools, **BODY)
    assert caught.value.param == "tools"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"[1]", "expected a JSON object"),
        (b"\xff\xfe", "not JSON"),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", "nested deeper"),
        (b"[" * 19_000, "nested deeper"),
        (b'{"prompt": "1", "prompt": "2"}', "occurs twice"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_body_that_is_not_json_is_refused(content: bytes, message: str, server: Served) -> None:
    headers = {"content-type": "application/json"}
    found = HTTP.post(f"{server.url}/v1/completions", content=content, headers=headers)
    assert found.status_code == 400
    assert message in found.json()["error"]["message"]


def test_paths_and_methods_that_do_not_exist_have_the_error_shape(server: Served) -> None:
    assert HTTP.get(f"{server.url}/v1/nothing").json()["error"]["message"] == "Not Found"
    found = HTTP.get(f"{server.url}/v1/completions")
    assert found.status_code == 405 and found.json()["error"]["type"] == "invalid_request_error"
    assert HTTP.post(f"{server.url}/admin/update_weights", json={}).status_code == 404


def test_health_and_metrics_are_there(server: Served, client: OpenAI) -> None:
    client.completions.create(prompt="1+2=", **BODY)
    assert HTTP.get(f"{server.url}/health").json()["status"] == "ok"
    text = HTTP.get(f"{server.url}/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["unmask_response_tokens_total"]) > 0
    assert float(values["unmask_forward_passes_total"]) > 0
    assert float(values["unmask_responses_running"]) == 0
    assert values['unmask_http_answers_total{path="/v1/completions",status="200"}']


def test_concurrent_requests_with_disconnects_leak_nothing(server: Served, client: OpenAI) -> None:
    """Every third reader leaves early; the others get the offline responses."""
    rng = random.Random(0)
    asks = [
        ("".join(rng.choices("0123456789+-", k=rng.randint(1, 60))), rng.randrange(1000))
        for _ in range(30)
    ]

    def one(number: int) -> str | None:
        prompt, seed = asks[number]
        body = {"prompt": prompt, "seed": seed, "max_tokens": 40, "stream": number % 2 == 0}
        if number % 3:
            found: Any = client.completions.create(model=NAME, **body)
            if body["stream"]:
                return "".join(chunk.choices[0].text for chunk in found)
            return found.choices[0].text
        leave(server, {**body, "stop_token_ids": [], "max_tokens": 99}, number % 4 * 200)
        return None

    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(one, range(len(asks))))
    stayed = [number for number, text in enumerate(texts) if text is not None]
    assert len(stayed) == 20
    expected = server.offline.generate(
        [asks[number][0] for number in stayed],
        [SamplingParams(max_tokens=40, seed=asks[number][1]) for number in stayed],
    )
    assert [texts[number] for number in stayed] == [one.text for one in expected]
    assert server.num_leaked_pages() == 0


def leave(server: Served, body: dict[str, Any], num_bytes: int) -> None:
    """Post a request and close the connection after some bytes of the answer."""
    host, port = server.url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + content)
        if body["stream"]:
            while num_bytes > 0:
                num_bytes -= len(connection.recv(num_bytes))


def test_a_model_without_tokenizer_is_refused() -> None:
    with pytest.raises(ValueError, match="no tokenizer"):
        build_app(LLM(toy_model()), ServerParams("m"))
