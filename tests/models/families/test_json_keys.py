"""JSON objects are read as written; every other file is one clear error."""

from pathlib import Path

import pytest

from unmask.models.families.json_keys import Keys, Size, TokenIds, read_json, write_json


def test_an_object_is_read_as_written(tmp_path: Path) -> None:
    content = {"b": [1, None, 2.5], "a": {"é": "漢"}, "c": True}
    write_json(tmp_path / "config.json", content)
    read = read_json(tmp_path / "config.json")
    assert read == content and list(read) == ["b", "a", "c"]
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    assert "漢" in text and text.endswith("}\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"is not a checkpoint: it has no config\.json"),
        (b"{", r"config\.json: not JSON"),
        (b"\xff{}", r"config\.json: not JSON"),
        (b"[1]", r"config\.json: expected a JSON object"),
        (b"null", r"config\.json: expected a JSON object"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', r"config\.json: not JSON: the key 'c' occurs twice"),
        (b"[" * 100_000, r"config\.json: nested deeper than 100 levels"),
        (b'{"a": ' + b"9" * 10_000 + b"}", r"config\.json: not JSON"),
    ],
)
def test_a_file_without_an_object_is_refused(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "config.json")


class Wanted(Keys):
    size: Size = 1
    ids: TokenIds = None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"size": "1"}', "size = '1': must be a valid integer"),
        ('{"size": 0}', "size = 0: must be greater than or equal to 1"),
        ('{"size": 1e300}', "size = 1e+300: must be a valid integer"),
        ('{"ids": [1, -1]}', "ids.1 = -1: must be greater than or equal to 0"),
        ('{"ids": {"a": 1}}', "ids = {'a': 1}: must be a valid integer or a valid list"),
    ],
)
def test_a_value_of_another_type_is_named_in_one_line(
    text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError) as caught:
        read_json(tmp_path / "config.json", Wanted)
    assert str(caught.value) == f"{tmp_path / 'config.json'}: {message}"


def test_a_long_value_is_cut(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"size": "x" * 10_000})
    with pytest.raises(ValueError, match=r"size = 'x+\.\.\.: must be a valid integer") as caught:
        read_json(tmp_path / "config.json", Wanted)
    assert len(str(caught.value)) < 200 + len(str(tmp_path))


def test_a_byte_order_mark_and_unused_keys_pass(tmp_path: Path) -> None:
    text = '\ufeff{"size": 3, "other": NaN}'
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    assert read_json(tmp_path / "config.json", Wanted)["size"] == 3
