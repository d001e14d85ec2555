"""Images in a request, by OpenAI's own client: answers equal the offline engine's, and nothing else is opened."""

import json
from base64 import b64encode
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from PIL import Image as pillow

from tests.seeing import NUM_VECTORS, picture
from tests.server.served import NAME, Served, served
from tests.trainers.toy_images import write_files
from unmask.sampling_params import SamplingParams
from unmask.server import engine_thread

BODY: dict[str, Any] = {"model": NAME, "max_tokens": 12, "seed": 3}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    limits: Any = {"max_images": 3, "max_image_bytes": 20_000, "max_body_bytes": 120_000}
    with served(tmp_path_factory.mktemp("toy"), sees=True, **limits) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Served) -> OpenAI:
    return server.client()


def url_of(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def bomb() -> bytes:
    """Return the small file of an image that takes 240 MB when it is decoded."""
    file = BytesIO()
    pillow.new("1", (9000, 9000)).save(file, "PNG")
    return file.getvalue()


def asks(*urls: str, text: str = "1+2=") -> Any:
    """Return the messages of a question with images in front."""
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


def test_a_chat_with_images_is_the_offline_response(server: Served, client: OpenAI) -> None:
    messages = asks(url_of(picture("red")), url_of(picture("blue", kind="JPEG"), "jpeg"))
    found = client.chat.completions.create(messages=messages, n=2, **BODY)
    (result,) = server.offline.chat(messages, SamplingParams(max_tokens=12, seed=3, n=2))
    expected = result.outputs
    assert [one.message.content for one in found.choices] == [one.text for one in expected]
    assert found.usage and found.usage.prompt_tokens == 2 * NUM_VECTORS + 4
    other = client.chat.completions.create(messages=asks(url_of(picture("green"))), **BODY)
    assert other.choices[0].message.content != expected[0].text, "it reads the pixels"


def test_a_stream_and_structured_output_are_those_of_the_whole_answer(
    server: Served, client: OpenAI
) -> None:
    messages = asks(url_of(picture("red")))
    whole = client.chat.completions.create(messages=messages, **BODY).choices[0].message.content
    for extra in ({}, {"stream_canvas": True}):
        chunks = list(
            client.chat.completions.create(messages=messages, stream=True, extra_body=extra, **BODY)
        )
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    extra: Any = {"regex": "[0-9]{3}"}
    found = client.chat.completions.create(messages=messages, extra_body=extra, **BODY)
    (expected,) = server.offline.chat(messages, SamplingParams(max_tokens=12, seed=3, **extra))
    assert found.choices[0].message.content == expected.text and len(expected.text) == 3


def test_images_stay_in_a_conversation(server: Served, client: OpenAI) -> None:
    first = asks(url_of(picture("purple")))
    turns: Any = [*first, {"role": "assistant", "content": "3"}, {"role": "user", "content": "+1="}]
    found = client.chat.completions.create(messages=turns, **BODY).choices[0].message.content
    (expected,) = server.offline.chat(turns, SamplingParams(max_tokens=12, seed=3))
    assert found == expected.text


@pytest.mark.parametrize(
    ("urls", "reason"),
    [
        (["file:///etc/hostname"], "must be a data URL"),
        (["/etc/hostname"], "must be a data URL"),
        (["http://127.0.0.1/a.png"], "must be a data URL.*opens no files and fetches no URLs"),
        (["data:image/png;base64,!!"], "the data URL holds no base64"),
        (["data:image/png,aa"], "the data URL must be data:image/...;base64"),
        (["data:image/png;base64,"], "is empty: no image"),
        ([url_of(b"no image")], "is no image of one of the formats"),
        ([url_of(picture()[:-30])], "cannot be decoded"),
        ([url_of(bomb())], "has 9000 x 9000 pixels"),
        ([url_of(b"0" * 20_001)], "the image has 20001 bytes, and the limit is 20000"),
        ([url_of(picture())] * 4, r"content\[3\]: a request may have 3 images"),
    ],
)
def test_other_images_are_refused_in_one_sentence(
    urls: list[str], reason: str, client: OpenAI
) -> None:
    with pytest.raises(openai.BadRequestError, match=reason) as caught:
        client.chat.completions.create(messages=asks(*urls), **BODY)
    error: Any = caught.value.body
    assert error["param"] == "messages" and error["type"] == "invalid_request_error"
    assert error["message"].startswith("messages[0].content[") and "\n" not in error["message"]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "path": "/etc/hostname"},
        {"type": "image", "image": "/etc/hostname"},
        {"type": "image", "image": ["/etc/hostname"]},
        {"type": "image", "url": "http://127.0.0.1/"},
        {"type": "image"},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "file", "file": {"file_id": "1"}},
    ],
)
def test_no_part_of_a_message_opens_a_file(part: dict[str, Any], client: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": [part]}]
    with pytest.raises(openai.BadRequestError, match=r"messages\[0\]\.content\[0\]: "):
        client.chat.completions.create(messages=messages, **BODY)


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="--max-body-bytes") as caught:
        client.chat.completions.create(messages=asks(url_of(b"0" * 120_000)), **BODY)
    assert caught.value.status_code == 413


def test_a_text_model_refuses_images_and_answers_the_next_request(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        client = running.client()
        with pytest.raises(openai.BadRequestError, match="this model reads text only") as caught:
            client.chat.completions.create(messages=asks(url_of(picture())), **BODY)
        assert json.dumps(caught.value.body)
        assert client.chat.completions.create(messages=asks(), **BODY).choices


def test_a_llada_v_sees(tmp_path: Path) -> None:
    write_files(tmp_path)
    url = url_of((tmp_path / "0.png").read_bytes())
    system = {"role": "system", "content": "-"}  # the family's has letters that the toy does not
    messages: Any = [system, *asks(url), {"role": "assistant", "content": "3"}, *asks(url)]
    with served(tmp_path / "checkpoint") as running:
        found = running.client().chat.completions.create(messages=messages, **BODY).choices[0]
        (expected,) = running.offline.chat(messages, SamplingParams(max_tokens=12, seed=3))
        assert found.message.content == expected.text


def test_images_of_open_requests_are_limited_together(
    server: Served, client: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    red = picture("red")
    monkeypatch.setattr(engine_thread, "MOST_OPEN_BYTES", len(red))
    for urls in ([url_of(red)], [url_of(red)] * 2):  # the same file twice is held once
        assert client.chat.completions.create(messages=asks(*urls), n=2, **BODY).choices
    with pytest.raises(openai.RateLimitError, match="the queue is full: images of 0 MiB"):
        client.chat.completions.create(messages=asks(url_of(red), url_of(picture("blue"))), **BODY)
    server.wait_until_idle()
    assert server.engine.image_bytes == 0
    assert client.chat.completions.create(messages=asks(), **BODY).choices
