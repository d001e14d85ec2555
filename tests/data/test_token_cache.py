"""The cache of tokens: equal to reading again, and never out of date."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.toy_tokenizers import PLAIN, toy_tokenizer
from unmask.checkpoints.tokenizer import TEMPLATE_FILE, load_tokenizer
from unmask.configs.sft_data import RecordsConfig
from unmask.data import token_cache
from unmask.data.demonstrations import (
    Demonstration,
    Vocabulary,
    demonstrations_of_source,
    vocabulary_of,
)
from unmask.data.token_cache import cache_folder, cached_demonstrations

LINES = [
    {"prompt": "1+2=", "response": "3"},
    {"prompt": "", "response": "4"},
    {"prompt": "5", "response": "67", "step_map": [3, 1, 2]},
]


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(token_cache, "MIN_BYTES", 1)


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def entries() -> list[Path]:
    return sorted(cache_folder().glob("*")) if cache_folder().is_dir() else []


def read(path: Path, vocabulary: Vocabulary, **config: Any) -> list[Demonstration]:
    return list(cached_demonstrations(RecordsConfig(path=path, **config), "data", vocabulary))


def test_a_second_start_reads_the_same_demonstrations_without_the_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.jsonl", LINES)
    vocabulary = vocabulary_of(toy_tokenizer(tmp_path / "t"), ())
    first = read(path, vocabulary)
    monkeypatch.setattr(token_cache, "demonstrations_of_source", None)
    second = read(path, vocabulary)
    assert first == second
    assert [d.place for d in first] == [d.place for d in second]
    assert second[2].place == f"data.path = {path}, line 3"
    assert [d.step_map for d in second] == [None, None, (3, 1, 2)]
    copy = write(tmp_path / "copy.jsonl", LINES)
    assert read(copy, vocabulary)[0].place == f"data.path = {copy}, line 1"
    (entry,) = entries()
    assert entry.suffix == ".npz"


def test_every_change_makes_another_entry(tmp_path: Path) -> None:
    path, place = write(tmp_path / "a.jsonl", LINES[:2]), tmp_path / "t"
    tokenizer = toy_tokenizer(place)
    vocabulary = vocabulary_of(tokenizer, ())
    read(path, vocabulary)
    read(path, vocabulary, rendered=True)
    read(path, vocabulary, turns="last")
    read(path, vocabulary_of(tokenizer, (5,)))
    read(path, vocabulary_of(tokenizer, (), [True] * 200))
    read(write(tmp_path / "b.jsonl", LINES[:1]), vocabulary)
    (place / TEMPLATE_FILE).write_text(PLAIN)
    read(path, vocabulary_of(load_tokenizer(place), ()))
    assert len(entries()) == 7


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not an archive", None])
def test_a_damaged_entry_is_made_again(damage: bytes | None, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", LINES)
    vocabulary = vocabulary_of(toy_tokenizer(tmp_path / "t"), ())
    first = read(path, vocabulary)
    (entry,) = entries()
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert read(path, vocabulary) == first
    assert entry.read_bytes() == whole


def test_small_files_and_files_with_errors_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = vocabulary_of(toy_tokenizer(tmp_path / "t"), ())
    with pytest.raises(ValueError, match="line 2: 'response' is empty"):
        read(write(tmp_path / "a.jsonl", [LINES[0], {"prompt": "", "response": ""}]), vocabulary)
    monkeypatch.setattr(token_cache, "MIN_BYTES", 2**20)
    config = RecordsConfig(path=write(tmp_path / "b.jsonl", LINES))
    assert list(cached_demonstrations(config, "data", vocabulary)) == list(
        demonstrations_of_source(config, "data", vocabulary)
    )
    assert entries() == []


def test_a_folder_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNMASK_CACHE", str(tmp_path / "file"))
    vocabulary = vocabulary_of(toy_tokenizer(tmp_path / "t"), ())
    with pytest.warns(UserWarning, match="the tokens cannot be kept"):
        assert len(read(write(tmp_path / "a.jsonl", LINES), vocabulary)) == 3
