"""The cache of tokens: equal to reading again, and never out of date."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from tests.data.images import CodeReader, ToyReader, png, write_png
from tests.data.toy_tokenizers import PLAIN, toy_tokenizer
from unmask.checkpoints.image_reader import ImageReader
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


def with_images(place: Path, *numbers: int) -> Path:
    """Write records of one image each, the last one with a second image inside of the record."""
    for number in numbers:
        write_png(place / f"{number}.png", number)
    lines: list[Any] = [{"prompt": "1", "response": "2", "image": f"{n}.png"} for n in numbers]
    url = f"data:image/png;base64,{b64encode(png(200)).decode()}"
    lines[-1]["image"] = [lines[-1]["image"], url]
    return write(place / "a.jsonl", lines)


def test_images_are_kept_as_files_and_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_cache, "MIN_BYTES", 2**30)
    path = with_images(tmp_path, 1, 2)
    vocabulary = vocabulary_of(toy_tokenizer(tmp_path / "t"), (), reader=ToyReader())
    first = read(path, vocabulary)
    monkeypatch.setattr(token_cache, "demonstrations_of_source", None)
    second = read(path, vocabulary)
    assert first == second
    for one, other in zip(first, second, strict=True):
        assert one.sources == other.sources
        names = [[source.name for source in found.sources] for found in (one, other)]
        assert names[0] == names[1]
        assert [image.source for image in other.images] == [*other.sources]
    assert [source.data for source in second[1].sources] == [png(2), png(200)]
    (entry,) = entries()
    assert png(1) not in entry.read_bytes() and png(200) not in entry.read_bytes()


@pytest.mark.parametrize("reader", [ToyReader(), CodeReader()])
@pytest.mark.parametrize("content", [png(9), b"", None])
def test_an_image_that_changed_makes_the_entry_again(
    content: bytes | None, reader: ImageReader, tmp_path: Path
) -> None:
    path = with_images(tmp_path, 1)
    vocabulary = vocabulary_of(toy_tokenizer(tmp_path / "t"), (), reader=reader)
    (before,) = read(path, vocabulary)
    picture = tmp_path / "1.png"
    picture.unlink() if content is None else picture.write_bytes(content)
    if not content:
        with pytest.raises(ValueError, match=r"line 1: .*1\.png (is empty|cannot be read)"):
            read(path, vocabulary)
        return
    (after,) = read(path, vocabulary)
    assert after != before and after.sources[0].data == content
    assert read(path, vocabulary) == [after]


def test_a_copy_in_the_cache_that_is_lost_is_written_again(tmp_path: Path) -> None:
    path = with_images(tmp_path, 1)
    vocabulary = vocabulary_of(toy_tokenizer(tmp_path / "t"), (), reader=ToyReader())
    read(path, vocabulary)
    (kept,) = (cache_folder().parent / "images").iterdir()
    kept.unlink()
    (found,) = read(path, vocabulary)
    assert found.sources[1].data == png(200) == kept.read_bytes()


def test_the_reader_and_the_directory_of_images_make_other_entries(tmp_path: Path) -> None:
    path, tokenizer = with_images(tmp_path, 1), toy_tokenizer(tmp_path / "t")
    write_png(tmp_path / "other" / "1.png", 7)
    two = read(path, vocabulary_of(tokenizer, (), reader=ToyReader(2)))
    three = read(path, vocabulary_of(tokenizer, (), reader=ToyReader(3)))
    vocabulary = vocabulary_of(tokenizer, (), reader=ToyReader(2))
    other = read(path, vocabulary, image_root=tmp_path / "other")
    copy = write(tmp_path / "other" / "a.jsonl", [json.loads(path.read_text())])
    assert len({two[0], three[0], other[0]}) == 3
    assert read(copy, vocabulary) == other
    assert len(entries()) == 3
