"""Demonstrations from right answers and from records, with chat templates of every kind and without one."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.toy_tokenizers import END, MARKED, OPENING, PLAIN, THINKING, UNENDED, toy_tokenizer
from unmask.checkpoints.image_reader import prompt_tokens
from unmask.checkpoints.tokenizer import Tokenizer, decode, encode, token_pieces
from unmask.configs.sft_data import RecordsConfig
from unmask.data.demonstrations import (
    Demonstration,
    Vocabulary,
    demonstrations_of_answers,
    demonstrations_of_file,
    demonstrations_of_records,
    demonstrations_of_source,
    vocabulary_of,
)
from unmask.diffusion.noise import NoiseSchedule
from unmask.diffusion.views import views_of_responses
from unmask.types import Message, Prompt

RECORDS = [{"prompt": "1+2=", "response": "3<eos>"}, {"prompt": "4=", "response": "4"}]
CHAT = [
    {"role": "system", "content": "short"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "<think>hm</think>1"},
    {"role": "user", "content": "two"},
    {"role": "assistant", "content": "<think>so</think>2"},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return toy_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def texts(demonstration: Demonstration, tokenizer: Tokenizer) -> tuple[str, str]:
    """Return prompt and response with their special tokens."""
    pairs = (demonstration.prompt_ids, demonstration.response_ids)
    prompt, response = ("".join(token_pieces(ids, tokenizer)) for ids in pairs)
    return prompt, response


def read(record: Any, vocabulary: Vocabulary, **config: Any) -> list[tuple[str, str]]:
    """Return the texts of the demonstrations of one record."""
    records = [("data.path = d.jsonl, line 7", record)]
    found = demonstrations_of_records(records, RecordsConfig(**config), vocabulary)
    return [texts(demonstration, vocabulary.tokenizer) for demonstration in found]


def stopping_at_end(place: Path, template: str | None) -> Vocabulary:
    """Return the vocabulary of a model that stops at the template's end of turn as well."""
    tokenizer = toy_tokenizer(place, template)
    return vocabulary_of(tokenizer, encode(END, tokenizer))


def test_an_answer_of_the_task_ends_with_end_of_text(tokenizer: Tokenizer) -> None:
    prompt = Prompt("sum", 1, (Message("user", "1+2="),))
    (found,) = demonstrations_of_answers([(prompt, "3")], vocabulary_of(tokenizer, ()))
    assert decode(found.prompt_ids, tokenizer) == "1+2="
    assert decode(found.response_ids, tokenizer) == "3"
    assert found.response_ids[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(RECORDS),
        "\n  " + json.dumps(RECORDS, indent=2),
        "".join(json.dumps(record) + "\n" for record in RECORDS),
        "\n\n".join(map(json.dumps, RECORDS)),
    ],
    ids=["list", "indented list", "lines", "lines with blanks"],
)
def test_a_list_and_lines_are_read_alike_and_rendered_texts_are_not_changed(
    text: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    (tmp_path / "demonstrations").write_text(text)
    config = RecordsConfig(path=tmp_path / "demonstrations", rendered=True)
    first, second = demonstrations_of_source(config, "data", vocabulary_of(tokenizer, ()))
    assert decode(first.prompt_ids, tokenizer) == "1+2="
    assert first.response_ids[-1] == tokenizer.eos_token_id
    assert decode(second.response_ids, tokenizer) == "4"
    assert second.response_ids[-1] != tokenizer.eos_token_id


def test_a_line_separator_inside_a_text_does_not_end_a_record(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    record = {"prompt": "1\u20282", "response": "3"}
    path = tmp_path / "demonstrations.jsonl"
    path.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    (found,) = demonstrations_of_file(path, Vocabulary(tokenizer))
    assert decode(found.prompt_ids, tokenizer) == "1\u20282"


def test_without_a_template_the_response_ends_with_end_of_text_once(tokenizer: Tokenizer) -> None:
    vocabulary = vocabulary_of(tokenizer, ())
    assert [pair for record in RECORDS for pair in read(record, vocabulary)] == [
        ("1+2=", "3<eos>"),
        ("4=", "4<eos>"),
    ]
    assert read({"text": "once"}, vocabulary) == [("", "once<eos>")]
    assert read({"text": "once"}, Vocabulary(tokenizer)) == [("", "once")]
    turns = [("shortone", "<think>hm</think>1<eos>")]
    turns += [("shortone<think>hm</think>1two", "<think>so</think>2<eos>")]
    assert read({"messages": CHAT}, vocabulary) == turns


@pytest.mark.parametrize("template", [PLAIN, MARKED, UNENDED, THINKING])
def test_the_prompt_of_each_turn_is_the_one_that_the_sampler_gets(
    template: str, tmp_path: Path
) -> None:
    vocabulary = stopping_at_end(tmp_path, template)
    messages = tuple(Message(turn["role"], turn["content"]) for turn in CHAT)  # pyright: ignore[reportArgumentType]
    records = [("place", {"messages": CHAT})]
    first, second = demonstrations_of_records(records, RecordsConfig(), vocabulary)
    for found, end in ((first, 2), (second, 4)):
        assert list(found.prompt_ids) == list(
            prompt_tokens(messages[:end], vocabulary.tokenizer).token_ids
        )
    responses = [texts(found, vocabulary.tokenizer)[1] for found in (first, second)]
    assert responses == ["<think>hm</think>1<|end|>", "<think>so</think>2<|end|>"]
    prompt, _ = texts(second, vocabulary.tokenizer)
    # Its own thought is trained; that of the turn before is read only if the sampler reads it.
    assert ("hm" in prompt) == (template is not THINKING)
    assert read({"messages": CHAT}, vocabulary, turns="last") == [(prompt, responses[1])]


def test_a_thinking_template_adds_an_empty_thought_to_an_answer_without_one(
    tmp_path: Path,
) -> None:
    vocabulary = stopping_at_end(tmp_path, THINKING)
    assert read({"prompt": "a", "response": "b"}, vocabulary) == [
        ("[user]a<|end|>\n[assistant]", "<think></think>b<|end|>")
    ]


@pytest.mark.parametrize("template", [PLAIN, MARKED, UNENDED])
def test_a_turn_that_ends_where_the_model_does_not_stop_gets_end_of_text(
    template: str, tmp_path: Path
) -> None:
    """A base model with the template of a chat model stops at <eos> alone."""
    vocabulary = vocabulary_of(toy_tokenizer(tmp_path, template), ())
    ((_, response),) = read({"prompt": "a", "response": "b"}, vocabulary)
    # A template that marks no end of turn trains none, and the model stops all the same.
    assert response == (
        "b<eos>" if template == UNENDED else "b<|end|>" + "\n" * (template == PLAIN) + "<eos>"
    )


def test_pairs_answers_and_conversations_are_one_format(tmp_path: Path) -> None:
    vocabulary = stopping_at_end(tmp_path, PLAIN)
    prompt = Prompt("sum", 1, (Message("user", "a"),))
    (answer,) = demonstrations_of_answers([(prompt, "b")], vocabulary)
    expected = texts(answer, vocabulary.tokenizer)
    assert expected == ("[user]a<|end|>\n[assistant]", "b<|end|>")
    user, assistant = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    for record in (
        {"prompt": "a", "response": "b"},
        {"prompt": "a", "completion": "b"},
        {"prompt": [user], "completion": [assistant]},
        {"messages": [user, assistant]},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"instruction": "a", "input": "", "output": "b"},
    ):
        assert read(record, vocabulary) == [expected]
    renamed = {"prompt": "question", "response": "answer"}
    assert read({"question": "a", "answer": "b"}, vocabulary, fields=renamed) == [expected]


def test_rendered_texts_get_neither_template_nor_end(tmp_path: Path) -> None:
    vocabulary = stopping_at_end(tmp_path, PLAIN)
    record = {"prompt": "[x]a", "response": "b", "step_map": [3]}
    assert read(record, vocabulary, rendered=True) == [("[x]a", "b")]
    assert read({"text": "a"}, vocabulary, rendered=True) == [("", "a")]
    with pytest.raises(ValueError, match=r"line 7: turns with roles are not rendered texts"):
        read({"messages": CHAT}, vocabulary, rendered=True)


def test_no_view_of_a_conversation_hides_what_the_user_wrote(tmp_path: Path) -> None:
    """The views of two turns hide each token of the assistant, and positions of the prompt never."""
    vocabulary = stopping_at_end(tmp_path, MARKED)
    records = [("place", {"messages": CHAT})]
    found = list(demonstrations_of_records(records, RecordsConfig(), vocabulary))
    pairs = [(d.prompt_ids, d.response_ids) for d in found]
    noise = (NoiseSchedule(0.5, 1.0, "token"), 40)
    for block in (None, 4):
        views = views_of_responses(pairs, block, noise, seeds=[1, 2])
        for demonstration, view in zip(found, views, strict=True):
            length = len(demonstration.response_ids)
            assert view.prompt_ids.tolist() == list(demonstration.prompt_ids)
            assert tuple(view.canvas_ids[:length].tolist()) == demonstration.response_ids
            assert view.target[:, :length].any(0).all()
            assert not view.target[:, length:].any()
    assert "two" in texts(found[1], vocabulary.tokenizer)[0]


def test_step_maps_have_a_step_per_token_end_of_text_included(tokenizer: Tokenizer) -> None:
    vocabulary = vocabulary_of(tokenizer, ())
    record = {"prompt": "1", "response": "23", "step_map": [2, 1]}
    with pytest.raises(ValueError, match=r"line 7: 'step_map' has 2 steps and the response 3 tok"):
        read(record, vocabulary)
    for steps, config in (([2, 1, 3], {}), ([2, 1], {"rendered": True})):
        records = [("place", {**record, "step_map": steps})]
        (found,) = demonstrations_of_records(records, RecordsConfig(**config), vocabulary)
        assert found.step_map == tuple(steps)
    ids = {"prompt_ids": [5], "response_ids": [6, 0], "step_map": [1, 1]}
    (found,) = demonstrations_of_records([("place", ids)], RecordsConfig(), vocabulary)
    assert found == Demonstration((5,), (6, 0), (1, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "1", "response": "2"}\n{"prompt": ', "line 2.*not JSON"),
        ('[{"prompt": "1"', "not JSON"),
        ('{"prompt": "1", "response": "2"}\n{"prompt": "1"}', "line 2: 'response' is missing"),
        ('[{"prompt": 1, "response": "2"}]', "item 1: 'prompt' must be a text"),
        ('[{"prompt": "1", "response": ""}]', "item 1: 'response' is empty"),
        ("[3]", "item 1: a record must be an object"),
        (
            '[{"prompt": "1", "response": "2"}, {"prompt": "\u00e9", "response": "2"}]',
            "item 2: .*no token",
        ),
        ('{"prompt": "1", "response": "\\ud800"}', "line 1: 'response' holds a lone surrogate"),
        ('{"prompt": "1", "response": "\\u0000"}', "line 1: 'response' holds a NUL character"),
        ('{"prompt": "1", "response": "2"}\n\0\0\0', "line 2: not JSON"),
        (
            '{"prompt": "1", "response": "2"}\n{"text": "3"}',
            "line 2: .* layout text, the first one",
        ),
        ('{"messages": [{"role": "user", "content": "3"}]}', "line 1: there is no turn of the ass"),
        (
            '{"messages": [{"role": "assistant", "content": "3"}]}',
            "line 1: .*begins with the assis",
        ),
        (
            '{"question": "1", "answer": "2"}',
            "line 1: the record has the keys 'question', 'answer'",
        ),
    ],
)
def test_a_mistake_is_named_with_its_file_and_record(
    text: str, message: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"^data\.path = .*wrong\.jsonl.*{message}") as caught:
        demonstrations_of_file(path, Vocabulary(tokenizer))
    assert "\n" not in str(caught.value)


def test_one_line_of_fifty_megabytes_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text('{"text": "2"}\n' + f'{{"text": "{"a" * 50_000_000}"}}')
    with pytest.raises(ValueError, match=r"line 2: 'text' has 50000000 characters: more than"):
        demonstrations_of_file(path, Vocabulary(tokenizer))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no') }}", "chat_template fails: .*no"),
        ("{{ messages[0].role }}", "chat_template loses the content"),
        (OPENING, "chat_template opens the assistant's turn with '<think>'"),
        (
            MARKED.replace("'assistant'", "'other'"),
            "chat_template marks no text of the assistant's last turn",
        ),
    ],
)
def test_a_template_that_cannot_be_used_is_named_with_the_record(
    template: str, message: str, tmp_path: Path
) -> None:
    vocabulary = vocabulary_of(toy_tokenizer(tmp_path, template), ())
    with pytest.raises(ValueError, match=rf"^data\.path = d\.jsonl, line 7: .*jinja: {message}"):
        read({"prompt": "a b", "response": "c d"}, vocabulary)


def test_a_missing_file_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"data\.path = .*absent.*no such file"):
        demonstrations_of_file(tmp_path / "absent", Vocabulary(tokenizer))


def test_a_set_of_the_hub_without_the_package_is_one_error(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.data.demonstrations.has_datasets", lambda: False)
    config = RecordsConfig(hub="authors/set")
    with pytest.raises(ValueError, match=r"data\.hub = authors/set: .*unmask\[data\]"):
        list(demonstrations_of_source(config, "data", Vocabulary(tokenizer)))


def test_a_set_that_needs_the_network_is_one_error(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object) -> None:
        raise ValueError("authors/set cannot be loaded from the hub (no network)")

    monkeypatch.setattr("unmask.data.demonstrations.has_datasets", lambda: True)
    monkeypatch.setattr("unmask.data.demonstrations.read_hub", no_network)
    with pytest.raises(
        ValueError,
        match=r"^data\.hub = authors/set cannot .*no network\); .* give that as data\.path$",
    ):
        list(
            demonstrations_of_source(
                RecordsConfig(hub="authors/set"), "data", Vocabulary(tokenizer)
            )
        )


def test_a_response_that_the_model_may_not_write_is_refused(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """Its log-probability is minus infinity, whatever the weights."""
    (nine,) = encode("9", tokenizer)
    drawable = [token != tokenizer.mask_token_id for token in range(nine)]
    limited = Vocabulary(tokenizer, (), drawable)
    path = tmp_path / "demonstrations.jsonl"
    path.write_text(json.dumps({"prompt": "<mask>", "response": "1"}))
    assert len(demonstrations_of_file(path, limited)) == 1  # a prompt is only read
    for token, shown in (
        ("<mask>", r"'<mask>' \(token id 1\)"),
        ("9", rf"'9' \(token id {nine}\)"),
    ):
        records = [{"prompt": "1", "response": "2"}, {"prompt": "1", "response": f"2{token}"}]
        path.write_text("\n".join(map(json.dumps, records)))
        assert len(demonstrations_of_file(path, Vocabulary(tokenizer))) == 2
        with pytest.raises(ValueError, match=rf"jsonl, line 2: .*{shown}, which the model may not"):
            demonstrations_of_file(path, limited)
        prompt = Prompt("sum", 4, (Message("user", "12"),))
        with pytest.raises(ValueError, match=rf"^task 'sum', problem 4: .*{shown}"):
            list(demonstrations_of_answers([(prompt, token)], limited))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (([900], [5]), "the prompt holds token id 900, outside the 100 ids of the model"),
        (([5], [10**9]), "the response holds .*token id 1000000000.*may not write"),
    ],
)
def test_ids_outside_the_vocabulary_are_refused(
    ids: tuple[list[int], list[int]], message: str, tokenizer: Tokenizer
) -> None:
    record = {"prompt_ids": ids[0], "response_ids": ids[1]}
    with pytest.raises(ValueError, match=rf"line 7: {message}"):
        read(record, Vocabulary(tokenizer, (), [True] * 100))
