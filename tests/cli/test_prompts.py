"""Prompts of words, files and stdin."""

import gzip
import io
import json
import sys
from pathlib import Path

import pytest

from unmask.cli.prompts import read_prompts

TURNS = [{"role": "user", "content": "1+"}]


def test_words_are_prompts_with_their_number() -> None:
    assert read_prompts(["a", ""], None) == [("prompt 1", "a"), ("prompt 2", "")]


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.jsonl.gz", "p", "p.txt", "-"])
def test_the_name_or_the_first_line_decides_between_text_and_json(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = f'\ufeff\n{{"prompt": " a\\nb", "id": 1}}\n\n{json.dumps({"messages": TURNS})}'
    data = content.encode()
    path = Path("-") if name == "-" else tmp_path / name
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    if name != "-":
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    place = "stdin" if name == "-" else f"--from = {path}"
    assert read_prompts([], path) == [
        (f"{place}, line 2", " a\nb"),
        (f"{place}, line 4", TURNS),
    ]


def test_lines_of_a_text_are_kept_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes("  a \u2028b\r\n\n[1]\n".encode())
    place = f"--from = {path}"
    assert read_prompts([], path) == [
        (f"{place}, line 1", "  a \u2028b"),
        (f"{place}, line 3", "[1]"),
    ]


def test_a_json_list_is_read_item_by_item(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('[\n{"prompt": "a"}, {"prompt": "b"}]')
    assert [prompt for _, prompt in read_prompts([], path)] == ["a", "b"]
