"""Layouts from keys, names of fields, and texts that no tokenizer takes."""

from typing import Any, get_args

import pytest

from unmask.configs.sft_data import FieldName, layout_names
from unmask.data.examples import (
    MAX_CHARACTERS,
    all_layouts,
    example_of,
    has_layout,
    layout_of,
    mapped,
    text_of,
)
from unmask.data.record_images import COLUMNS

TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def test_the_configuration_lists_layouts_and_fields() -> None:
    found = all_layouts()
    assert layout_names() == tuple(found)
    names = {key for layout in found.values() for key in (*layout.KEYS, *layout.OPTIONAL)}
    assert names | {*COLUMNS} == set(get_args(FieldName))


@pytest.mark.parametrize(
    ("record", "layout"),
    [
        ({"messages": TURNS, "prompt": "a", "prompt_id": "x"}, "messages"),
        ({"conversations": [], "id": 1}, "sharegpt"),
        ({"prompt": "a", "completion": "b"}, "prompt_completion"),
        ({"prompt": "a", "response": "b", "step_map": [1]}, "prompt_response"),
        ({"instruction": "a", "input": "", "output": "b"}, "alpaca"),
        ({"text": "a", "messages": None}, "text"),
        ({"prompt_ids": [1], "response_ids": [2]}, "tokens"),
    ],
)
def test_the_layout_follows_from_the_keys(record: dict[str, Any], layout: str) -> None:
    assert layout_of(record) == layout
    assert has_layout(record, layout)


def test_an_unknown_layout_names_its_keys_and_the_layouts() -> None:
    with pytest.raises(ValueError) as caught:
        layout_of({"question": "a", "answer": "b"})
    message = str(caught.value)
    for part in ("'question', 'answer'", "alpaca: instruction, output", "messages", "data.fields"):
        assert part in message
    assert "\n" not in message


def test_a_record_of_many_keys_is_named_by_the_first_ones() -> None:
    with pytest.raises(ValueError, match=r"'k19', \.\.\. \(500 in all\)"):
        layout_of({f"k{n}": n for n in range(500)})
    with pytest.raises(ValueError, match="the record has the keys no field, which"):
        layout_of({})


def test_two_layouts_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of messages and of text: choose one by data\.layout"):
        layout_of({"messages": TURNS, "text": "a"})


def test_fields_are_renamed_and_found_inside_of_tables() -> None:
    record = {"question": "a", "extra": {"answer": "b"}, "prompt": "no", "id": 1, "x.y": "c"}
    fields = {"prompt": "question", "response": "extra.answer"}
    renamed = mapped(record, fields)
    assert (renamed["prompt"], renamed["response"]) == ("a", "b")
    assert layout_of(renamed) == "prompt_response"
    assert mapped(record, {}) is record
    assert mapped(record, {"text": "x.y"})["text"] == "c"
    with pytest.raises(ValueError, match=r"'extra\.absent' \(data\.fields\) is missing: .*'id'"):
        mapped(record, {"response": "extra.absent"})


def test_a_missing_field_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'response' is missing: .* this one has 'prompt', 'x'"):
        example_of({"prompt": "a", "x": 1}, "prompt_response")


@pytest.mark.parametrize("key", ["tools", "videos", "history"])
def test_fields_that_would_change_the_prompt_are_refused(key: str) -> None:
    record = {"prompt": "a", "response": "b", key: [1]}
    with pytest.raises(ValueError, match=f"'{key}' is not read"):
        example_of(record, "prompt_response")
    assert example_of({**record, key: None}, "prompt_response").messages


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ab\0c", "a NUL character at character 3"),
        ("a\ud800", "a lone surrogate at character 2"),
        ("a" * (MAX_CHARACTERS + 1), "the limit"),
        (None, "must be a text, found None"),
    ],
)
def test_texts_that_no_tokenizer_takes_are_refused(text: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        text_of({"text": text}, "text")
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


def test_a_long_text_of_odd_characters_is_accepted() -> None:
    assert text_of({"text": "\ufeff\u2028\U0001f600"}, "text")
