"""A mask token is added to every kind of tokenizer files, with the id of the model's row."""

import json
from pathlib import Path
from typing import Any

import pytest

from unmask.checkpoints.mask_token import MaskToken, choose_mask_token, write_mask_token
from unmask.checkpoints.random_init import byte_tokenizer
from unmask.checkpoints.tokenizer import character_tokenizer, decode, encode, load_tokenizer

TEXT = "<|MASK|>"


def qwen_tokenizer(directory: Path) -> None:
    """Write the files of a Qwen tokenizer without `tokenizer.json`: letters, and two added tokens."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = {letter: index for index, letter in enumerate(sorted(ByteLevel.alphabet()))}
    added = {"<|endoftext|>": 256, "<|im_end|>": 257}
    directory.mkdir()
    (directory / "vocab.json").write_text(json.dumps(letters))
    (directory / "merges.txt").write_text("#version: 0.2\n")
    (directory / "added_tokens.json").write_text(json.dumps(added))
    (directory / "special_tokens_map.json").write_text('{"eos_token": "<|im_end|>"}')
    entries = {
        str(index): {"content": text, "special": True, "normalized": False}
        for text, index in added.items()
    }
    config: dict[str, Any] = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "added_tokens_decoder": entries,
        "chat_template": "{{ messages[0].content }}",
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config))


def test_files_of_qwen(tmp_path: Path) -> None:
    place = tmp_path / "qwen"
    qwen_tokenizer(place)
    before = load_tokenizer(place)
    mask = choose_mask_token(place, 300, None, TEXT)
    assert mask == MaskToken(258, TEXT, num_known=258, is_added=True)
    write_mask_token(place, mask)
    tokenizer = load_tokenizer(place)
    assert tokenizer.get_vocab() == before.get_vocab() | {TEXT: 258}
    assert tokenizer.mask_token_id == 258 and tokenizer.eos_token_id == 257
    assert tokenizer.chat_template == before.chat_template
    assert encode(f"a{TEXT}b<|im_end|>", tokenizer)[1::2] == [258, 257]
    for name in ("added_tokens.json", "special_tokens_map.json"):
        assert TEXT in (place / name).read_text()


def test_a_single_file(tmp_path: Path) -> None:
    before = byte_tokenizer(tmp_path, has_mask=False)
    old = json.loads((tmp_path / "tokenizer.json").read_text())
    write_mask_token(tmp_path, choose_mask_token(tmp_path, 257, None, TEXT))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.get_vocab() == before.get_vocab() | {TEXT: 257}
    assert decode(encode(f"né{TEXT}", tokenizer), tokenizer) == "né"
    made = json.loads((tmp_path / "tokenizer.json").read_text())
    assert made["added_tokens"][:-1] == old["added_tokens"]
    assert {**made, "added_tokens": 0} == {**old, "added_tokens": 0}


def test_without_a_config(tmp_path: Path) -> None:
    byte_tokenizer(tmp_path, has_mask=False)
    (tmp_path / "tokenizer_config.json").unlink()
    write_mask_token(tmp_path, choose_mask_token(tmp_path, 257, None, TEXT))
    assert load_tokenizer(tmp_path).mask_token_id == 257


def test_a_mask_token_that_is_there_is_taken(tmp_path: Path) -> None:
    character_tokenizer("0123456789", tmp_path)
    mask = choose_mask_token(tmp_path, 12, None, TEXT)
    assert mask == MaskToken(1, "<mask>", num_known=12, is_added=False)
    files = {path: path.read_bytes() for path in tmp_path.glob("*.json")}
    write_mask_token(tmp_path, mask)
    assert {path: path.read_bytes() for path in files} == files


def test_the_spelling_may_be_there_already(tmp_path: Path) -> None:
    place = tmp_path / "qwen"
    qwen_tokenizer(place)
    mask = choose_mask_token(place, 300, None, "<|endoftext|>")
    assert (mask.id, mask.is_added) == (256, False)
    with pytest.raises(ValueError, match=r"spells id 256 '<\|endoftext\|>' already"):
        choose_mask_token(place, 300, 258, "<|endoftext|>")


def test_a_token_of_the_callers_choice(tmp_path: Path) -> None:
    place = tmp_path / "qwen"
    qwen_tokenizer(place)
    mask = choose_mask_token(place, 300, 256, TEXT)
    assert mask == MaskToken(256, "<|endoftext|>", num_known=258, is_added=False)
    write_mask_token(place, mask)
    assert load_tokenizer(place).mask_token_id == 256
    assert choose_mask_token(place, 300, 258, TEXT).is_added


@pytest.mark.parametrize(("given", "message"), [(259, "mask_id = 259"), (-1, "mask_id = -1")])
def test_an_id_out_of_reach_is_refused(given: int, message: str, tmp_path: Path) -> None:
    place = tmp_path / "qwen"
    qwen_tokenizer(place)
    with pytest.raises(ValueError, match=message):
        choose_mask_token(place, 300, given, TEXT)


def test_an_id_without_a_token_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    Tokenizer(WordLevel({"a": 0, "b": 5}, "a")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="mask_id = 3: the tokenizer has no such token"):
        choose_mask_token(tmp_path, 8, 3, TEXT)
    mask = choose_mask_token(tmp_path, 8, None, TEXT)
    assert mask.id == 6
    with pytest.raises(ValueError, match="its ids have gaps; give the mask token"):
        write_mask_token(tmp_path, mask)  # the library counts tokens: it calls this one 2


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    byte_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="the tokenizer has 258 ids and the embedding 200 rows"):
        choose_mask_token(tmp_path, 200, None, TEXT)
    assert choose_mask_token(tmp_path, 258, None, TEXT).id == 1
