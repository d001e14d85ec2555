"""JSON objects there and back, and every file that is none is one clear error."""

from pathlib import Path

import pytest

from unmask.models.json_object import read_json, write_json


def test_there_and_back(tmp_path: Path) -> None:
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
        (b"{", r"config\.json is not JSON"),
        (b"\xff{}", r"config\.json is not JSON"),
        (b"[1]", r"config\.json is not a JSON object"),
        (b"null", r"config\.json is not a JSON object"),
    ],
)
def test_what_is_no_object(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "config.json")
