"""Demonstrations with images, in every layout that has a prompt."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.images import ToyReader, png, write_png
from tests.data.toy_tokenizers import PLAIN, toy_tokenizer
from unmask.checkpoints.image_reader import prompt_tokens
from unmask.checkpoints.tokenizer import Tokenizer, token_pieces
from unmask.configs.sft_data import RecordsConfig
from unmask.data.demonstrations import (
    Demonstration,
    Vocabulary,
    demonstrations_of_answers,
    demonstrations_of_source,
    vocabulary_of,
)
from unmask.images import Image
from unmask.types import Message, Prompt

SYSTEM = "[system]see<|end|>\n"
ASKED = f"{SYSTEM}[user]##\none<|end|>\n[assistant]"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return toy_tokenizer(tmp_path_factory.mktemp("tokenizer"), PLAIN)


@pytest.fixture
def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    return vocabulary_of(tokenizer, (), reader=ToyReader())


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "cache"))
    for number in (1, 2):
        write_png(tmp_path / "pictures" / f"{number}.png", number)


def read(place: Path, record: Any, vocabulary: Vocabulary, **keys: Any) -> list[Demonstration]:
    """Return the demonstrations of a file of one record."""
    (place / "d.jsonl").write_text(json.dumps(record))
    config = RecordsConfig(path=place / "d.jsonl", **keys)
    return list(demonstrations_of_source(config, "data", vocabulary))


def text(demonstration: Demonstration, tokenizer: Tokenizer) -> str:
    """Return a prompt with `#` at the vectors of images, which must count down from -1."""
    ids = demonstration.prompt_ids
    assert [i for i in ids if i < 0] == [*range(-1, -1 - sum(i < 0 for i in ids), -1)]
    return "".join("#" if i < 0 else token_pieces([i], tokenizer)[0] for i in ids)


PART = {"type": "image", "path": "pictures/1.png"}
ONE = {"type": "text", "text": "one"}
TURN = {"role": "assistant", "content": "1"}


@pytest.mark.parametrize(
    "record",
    [
        {"image": "pictures/1.png", "prompt": "<image>\none", "response": "1"},
        {"image": "pictures/1.png", "prompt": "one", "response": "1"},
        {"image": ["pictures/1.png"], "prompt": "one", "response": "1", "image_token_ids": [9]},
        {"image_path": "pictures/1.png", "prompt": "one", "completion": "1"},
        {"image": "pictures/1.png", "instruction": "one", "output": "1"},
        {"messages": [{"role": "user", "content": [PART, ONE]}, TURN]},
        {
            "images": ["pictures/1.png"],
            "prompt": [{"role": "user", "content": [{"type": "image"}, ONE]}],
            "completion": [TURN],
        },
        {
            "image": "pictures/1.png",
            "conversations": [
                {"from": "human", "value": "<image>\none"},
                {"from": "gpt", "value": "1"},
            ],
        },
    ],
    ids=[
        *("marker", "no marker", "list", "TRL texts", "Alpaca", "parts", "TRL parts", "LLaVA"),
    ],
)
def test_an_image_stands_in_the_prompt_of_every_layout(
    record: Any, tmp_path: Path, vocabulary: Vocabulary
) -> None:
    (found,) = read(tmp_path, record, vocabulary)
    assert text(found, vocabulary.tokenizer) == ASKED
    (image,) = found.images
    (source,) = found.sources
    assert image.source == source and source.data == png(1) and image.count == 2
    assert found.step_map is None


def test_the_prompt_is_the_one_that_the_sampler_gets(
    tmp_path: Path, vocabulary: Vocabulary
) -> None:
    turns = [
        {"role": "user", "content": [PART, ONE]},
        TURN,
        {"role": "user", "content": [{"type": "text", "text": "and"}, {"type": "image"}]},
        {"role": "assistant", "content": "2"},
    ]
    record = {"messages": turns, "images": ["pictures/2.png"]}
    first, second = read(tmp_path, record, vocabulary)
    one, two = (Image(f"{n}", png(n)) for n in (1, 2))
    asked = (Message.of("user", one, "one"), Message("assistant", "1"))
    later = (*asked, Message.of("user", "and", two))
    for found, messages in ((first, asked[:1]), (second, later)):
        prompt = prompt_tokens(messages, vocabulary.tokenizer, vocabulary.reader)
        assert (found.prompt_ids, found.images) == (prompt.token_ids, prompt.images)
    answered = demonstrations_of_answers([(Prompt("t", 1, asked[:1]), "1")], vocabulary)
    assert [d.prompt_ids for d in answered] == [first.prompt_ids]
    assert second.sources == (one, two)


def test_rendered_texts_have_their_markers_only(tmp_path: Path, vocabulary: Vocabulary) -> None:
    record = {"image": "pictures/1.png", "prompt": "a<image>b", "response": "c", "step_map": [1]}
    (found,) = read(tmp_path, record, vocabulary, rendered=True)
    assert text(found, vocabulary.tokenizer) == "a##b"
    assert found.step_map == (1,)


def test_image_root_is_the_directory_that_paths_are_below(
    tmp_path: Path, vocabulary: Vocabulary
) -> None:
    record = {"image": "1.png", "prompt": "one", "response": "1"}
    (found,) = read(tmp_path, record, vocabulary, image_root=tmp_path / "pictures")
    assert found.sources[0].data == png(1)
    with pytest.raises(
        ValueError, match=r"data\.path = .*d\.jsonl, line 1: .*1\.png cannot be read"
    ):
        read(tmp_path, record, vocabulary)
    with pytest.raises(ValueError, match=r"line 1: \.\./d/1\.png: is outside"):
        read(tmp_path, {**record, "image": "../d/1.png"}, vocabulary)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"image": "d.jsonl", "prompt": "one", "response": "1"}, r"d\.jsonl is no image of one"),
        ({"image": "pictures/1.png", "prompt": "<image><image>one", "response": "1"}, "have 2 <image>"),
        ({"prompt": "<image>\none", "response": "1"}, "a text begins with <image>, and the record has no"),
        ({"prompt": "one <image>", "response": "1"}, "the prompt has <image>, and the record has no image"),
        ({"image": "pictures/1.png", "text": "one"}, r"1\.png: the layout text has no prompt"),
        ({"image": "pictures/1.png", "prompt_ids": [5], "response_ids": [6]}, "the layout tokens has no prompt"),
        ({"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": [PART, ONE]}]},
         r"messages\[1\]: an assistant's turn with an image"),
        ({"messages": [{"role": "user", "content": [PART, {"type": "text", "text": "<image>"}]}, TURN]},
         r"messages\[0\]: the text has 2 <image> for 1 images"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_named_with_its_record(
    record: Any, message: str, tmp_path: Path, vocabulary: Vocabulary
) -> None:
    with pytest.raises(ValueError, match=rf"^data\.path = .*d\.jsonl, line 1: .*{message}"):
        read(tmp_path, record, vocabulary)


def test_a_column_next_to_parts_with_sources_stands_in_front(
    tmp_path: Path, vocabulary: Vocabulary
) -> None:
    turns = [{"role": "user", "content": [PART]}, TURN]
    (found,) = read(tmp_path, {"messages": turns, "images": ["pictures/2.png"]}, vocabulary)
    assert [source.data for source in found.sources] == [png(2), png(1)]


def test_a_text_model_refuses_images_and_reads_markers_as_text(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    plain = vocabulary_of(tokenizer, ())
    record = {"prompt": "a <image>\none", "response": "1"}
    (found,) = read(tmp_path, record, plain)
    assert text(found, tokenizer) == "[user]a <image>\none<|end|>\n[assistant]"
    with pytest.raises(ValueError, match=r"line 1: .*1\.png: this model reads text only"):
        read(tmp_path, {**record, "image": "pictures/1.png"}, plain)
