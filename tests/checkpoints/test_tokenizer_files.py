"""The ids read from tokenizer files equal those of the loaded tokenizer."""

import json
from pathlib import Path

import pytest

from tests.checkpoints.test_tokenizer import ALPHABET
from unmask.checkpoints.random_init import byte_tokenizer
from unmask.checkpoints.tokenizer import character_tokenizer, load_tokenizer, num_tokens
from unmask.checkpoints.tokenizer_files import read_known_ids


def assert_agrees(directory: Path) -> None:
    tokenizer, known = load_tokenizer(directory), read_known_ids(directory)
    assert known.num_tokens == num_tokens(tokenizer)
    assert known.mask_token_id == tokenizer.mask_token_id
    assert known.eos_token_id == tokenizer.eos_token_id


def test_characters(tmp_path: Path) -> None:
    character_tokenizer(ALPHABET, tmp_path)
    assert_agrees(tmp_path)
    assert read_known_ids(tmp_path).mask_token_id == 1


@pytest.mark.parametrize("spelling", ["text", "object", "absent"])
def test_special_tokens_are_spelt_in_two_ways(tmp_path: Path, spelling: str) -> None:
    character_tokenizer(ALPHABET, tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    if spelling == "object":
        config["mask_token"] = {"content": config["mask_token"], "__type": "AddedToken"}
    if spelling == "absent":
        del config["mask_token"]
    path.write_text(json.dumps(config))
    assert_agrees(tmp_path)


def test_files_as_sdar_ships_them(tmp_path: Path) -> None:
    """Qwen's two files, and tokens that stand only among the added ones."""
    vocabulary = {"a": 0, "b": 1, "Ġ": 2, "ab": 3}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    added = {
        "5": {"content": "<|MASK|>", "special": False},
        "4": {"content": "<|endoftext|>", "special": True},
    }
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": added,
        "mask_token": "<|MASK|>",
        "eos_token": "<|endoftext|>",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    known = read_known_ids(tmp_path)
    assert known == (6, 5, 4)
    assert_agrees(tmp_path)


def test_bytes(tmp_path: Path) -> None:
    byte_tokenizer(tmp_path)
    assert_agrees(tmp_path)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("tokenizer_config.json", {"mask_token": 3}, "mask_token = 3: must be a valid string"),
        ("tokenizer.json", {"model": {"vocab": {"a": -1}}}, "model.vocab.a = -1: must be"),
        ("tokenizer.json", {"model": {"vocab": [["a"]]}}, "model.vocab.0 = \\['a'\\]: "),
        ("tokenizer.json", {"model": {}}, "model = {}: must be an object with 'vocab'"),
        ("tokenizer.json", {"model": {"vocab": {}}, "added_tokens": []}, "is empty"),
    ],
)
def test_broken_tokenizer_files_are_named(
    name: str, changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    character_tokenizer(ALPHABET, tmp_path)
    path = tmp_path / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=message):
        read_known_ids(tmp_path)
