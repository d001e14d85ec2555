"""Demonstrations from right answers, from a JSON list and from JSON Lines."""

import json
from pathlib import Path

import pytest

from unmask.checkpoints.tokenizer import Tokenizer, character_tokenizer, decode
from unmask.data.demonstrations import demonstrations_of_answers, demonstrations_of_file
from unmask.types import Message, Prompt

RECORDS = [{"prompt": "1+2=", "response": "3<eos>"}, {"prompt": "4=", "response": "4"}]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return character_tokenizer("0123456789+=\u2028", tmp_path_factory.mktemp("tokenizer"))


def test_an_answer_of_the_task_ends_with_end_of_text(tokenizer: Tokenizer) -> None:
    prompt = Prompt("sum", 1, (Message("user", "1+2="),))
    (found,) = demonstrations_of_answers([(prompt, "3")], tokenizer)
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
def test_a_list_and_lines_are_read_alike_and_taken_as_written(
    text: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    (tmp_path / "demonstrations").write_text(text)
    first, second = demonstrations_of_file(tmp_path / "demonstrations", tokenizer)
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
    (found,) = demonstrations_of_file(path, tokenizer)
    assert decode(found.prompt_ids, tokenizer) == "1\u20282"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no demonstrations"),
        ("[]", "holds no demonstrations"),
        ('{"prompt": "1", "response": "2"}\n{"prompt": ', "line 2.*not JSON"),
        ('[{"prompt": "1"', "not JSON"),
        ('{"prompt": "1", "response": "2"}\n{"prompt": "1"}', "line 2.*'response'"),
        ('[{"prompt": 1, "response": "2"}]', "item 1.*'prompt'"),
        ('[{"prompt": "1", "response": ""}]', "item 1.*'response'"),
        ("[3]", "item 1.*'prompt'"),
        (
            '[{"prompt": "1", "response": "2"}, {"prompt": "?", "response": "2"}]',
            "item 2.*no token",
        ),
    ],
)
def test_a_mistake_is_named_with_its_file_and_record(
    text: str, said: str, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"wrong.jsonl.*{said}"):
        demonstrations_of_file(path, tokenizer)


def test_a_missing_file_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"data\.path = .*absent.*no such file"):
        demonstrations_of_file(tmp_path / "absent", tokenizer)


def test_a_response_that_the_model_may_not_write_is_refused(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """Its log-probability is minus infinity, whatever the weights."""
    drawable = [token != tokenizer.mask_token_id for token in range(10)]
    path = tmp_path / "demonstrations.jsonl"
    path.write_text(json.dumps({"prompt": "<mask>", "response": "1"}))
    assert len(demonstrations_of_file(path, tokenizer, drawable)) == 1  # a prompt is only read
    for token, said in (("<mask>", r"'<mask>' \(token id 1\)"), ("9", r"'9' \(token id 11\)")):
        records = [{"prompt": "1", "response": "2"}, {"prompt": "1", "response": f"2{token}"}]
        path.write_text("\n".join(map(json.dumps, records)))
        assert len(demonstrations_of_file(path, tokenizer)) == 2
        with pytest.raises(ValueError, match=rf"jsonl, line 2: .*{said}, which the model may not"):
            demonstrations_of_file(path, tokenizer, drawable)
        prompt = Prompt("sum", 4, (Message("user", "1+2="),))
        with pytest.raises(ValueError, match=rf"^task 'sum', problem 4: .*{said}"):
            demonstrations_of_answers([(prompt, token)], tokenizer, drawable)
