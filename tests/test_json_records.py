"""Records come one by one with the place of each, from either form of file."""

import gzip
import json
from pathlib import Path

import pytest

from unmask.json_records import read_records

RECORDS = [{"a": 1}, {"a": "two\u2028lines"}]


def test_a_list_and_its_lines_hold_the_same_records(tmp_path: Path) -> None:
    listed, lines = tmp_path / "list.json", tmp_path / "lines.jsonl"
    listed.write_text(json.dumps(RECORDS, indent=2), encoding="utf-8")
    text = "\n\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS)
    lines.write_text(text, encoding="utf-8")
    assert [record for _, record in read_records(listed, "key")] == RECORDS
    assert [record for _, record in read_records(lines, "key")] == RECORDS
    assert [place for place, _ in read_records(lines, "key")] == [
        f"key = {lines}, line 1",
        f"key = {lines}, line 3",
    ]


@pytest.mark.parametrize(
    ("text", "words"), [("{", "line 1: not JSON"), ("[{]", "not JSON"), (None, "no such file")]
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "file"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        list(read_records(path, "task.train"))
    assert f"task.train = {path}" in str(caught.value)


def test_a_compressed_file_holds_what_it_was_made_from(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, RECORDS)).encode()))
    assert [record for _, record in read_records(path, "key")] == RECORDS
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ValueError, match="cannot be read"):
        list(read_records(path, "key"))
