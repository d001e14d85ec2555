"""Prompts of text models; those of families with images are tested with their readers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from unmask.checkpoints.image_reader import PromptTokens, TextReader, prompt_tokens
from unmask.checkpoints.tokenizer import Tokenizer, character_tokenizer, load_tokenizer
from unmask.images import Image
from unmask.types import Message, PromptImage

A = Image("a.png", b"content")


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    character_tokenizer("abc ", tmp_path)
    return load_tokenizer(tmp_path)


def test_a_text_model_refuses_an_image(tokenizer: Tokenizer) -> None:
    message = Message.of("user", A, "how many")
    with pytest.raises(
        ValueError, match=r"a\.png: this model reads text only; leave the image out"
    ):
        prompt_tokens([message], tokenizer)


class FirstReader(TextReader):
    """A reader that gives every image one vector, in front of the text."""

    def conversation(self, messages: Sequence[Message]) -> Sequence[Message]:
        return [Message("system", "ab"), *messages]

    def tokens(
        self, text: str, images: Sequence[Image], encode: Callable[[str], list[int]]
    ) -> PromptTokens:
        ids = encode(text.replace("<image>\n", ""))
        return PromptTokens((-1, *ids), tuple(PromptImage(i.digest, 1, i) for i in images))


def test_a_reader_sees_the_rendered_text_and_the_images(tokenizer: Tokenizer) -> None:
    found = prompt_tokens([Message.of("user", A, "c")], tokenizer, FirstReader())
    ids = tokenizer("abc", add_special_tokens=False).input_ids
    assert found == PromptTokens((-1, *ids), (PromptImage(A.digest, 1),))
