"""Tokenizers of GGUF files: the ids of the tokenizer that the metadata was taken from."""

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, Qwen2Tokenizer

from tests.toy_gguf import ROWS, TEXTS, published_tokenizer, tokenizer_metadata
from unmask.checkpoints.gguf_tokenizer import SPLITS, write_gguf_tokenizer
from unmask.checkpoints.image_reader import prompt_tokens
from unmask.checkpoints.tokenizer import decode, encode, load_tokenizer
from unmask.types import Message


@pytest.mark.parametrize("pre", SPLITS)
def test_ids_are_those_of_the_published_tokenizer(pre: str, tmp_path: Path) -> None:
    published = published_tokenizer(pre)
    write_gguf_tokenizer(tokenizer_metadata(published, pre), tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    for text in TEXTS:
        wanted = published.encode(text, add_special_tokens=False).ids
        assert encode(text, tokenizer) == wanted
        assert decode(wanted, tokenizer) == published.decode(wanted)
    assert tokenizer.get_vocab() == published.get_vocab()


def test_pieces_are_those_of_the_published_split_and_no_other(tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    for pre in SPLITS:
        published = published_tokenizer(pre)
        (tmp_path / pre).mkdir()
        write_gguf_tokenizer(tokenizer_metadata(published, pre), tmp_path / pre)
        loaded: Any = load_tokenizer(tmp_path / pre)
        found[pre], wanted = (
            [of.pre_tokenizer.pre_tokenize_str(text) for text in TEXTS]
            for of in (loaded.backend_tokenizer, published)
        )
        assert found[pre] == wanted
    assert all(one != two for one, two in combinations(found.values(), 2))


def test_qwen_is_the_tokenizer_of_transformers(tmp_path: Path) -> None:
    metadata = tokenizer_metadata(published_tokenizer("qwen2"), "qwen2")
    write_gguf_tokenizer(metadata, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {text: i for text, i in tokenizer.get_vocab().items() if text != "<think>"}
    theirs = Qwen2Tokenizer(vocab=vocabulary, merges=merges)
    for text in TEXTS[:3]:
        assert encode(text, tokenizer) == theirs(text, add_special_tokens=False).input_ids


def test_special_tokens_template_and_free_ids(tmp_path: Path) -> None:
    metadata = tokenizer_metadata(published_tokenizer("smollm"), "smollm")
    write_gguf_tokenizer(metadata, tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 0)
    ids = encode("<|im_start|>a<think><|im_end|>", tokenizer)
    assert (ids[0], ids[-1], len(ids)) == (1, 2, 4)
    assert decode(ids, tokenizer) == "a<think>"  # only control tokens are special
    assert list(prompt_tokens([Message("user", "a1")], tokenizer).token_ids) == encode(
        "a1", tokenizer
    )
    assert max(tokenizer.get_vocab().values()) < ROWS - 1  # unused tokens are left out


@pytest.mark.parametrize(("pre", "stated"), [("smollm", True), ("llama-bpe", None)])
def test_begin_of_text_is_added_where_special_tokens_are_asked_for(
    pre: str, stated: bool | None, tmp_path: Path
) -> None:
    metadata = tokenizer_metadata(published_tokenizer(pre), pre)
    del metadata["tokenizer.ggml.add_bos_token"]
    if stated is not None:
        metadata["tokenizer.ggml.add_bos_token"] = stated
    write_gguf_tokenizer(metadata, tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)("a").input_ids[0] == 1
    assert encode("a", load_tokenizer(tmp_path))[0] != 1
    del metadata["tokenizer.ggml.bos_token_id"]
    with pytest.raises(ValueError, match="bos_token_id is missing"):
        write_gguf_tokenizer(metadata, tmp_path)


@pytest.mark.parametrize("key", ["tokens", "token_type", "merges"])
def test_a_missing_list_is_named(key: str, tmp_path: Path) -> None:
    metadata = tokenizer_metadata(published_tokenizer("gpt-2"), "gpt-2")
    del metadata[f"tokenizer.ggml.{key}"]
    with pytest.raises(ValueError, match=f"tokenizer.ggml.{key} is missing or no list"):
        write_gguf_tokenizer(metadata, tmp_path)
