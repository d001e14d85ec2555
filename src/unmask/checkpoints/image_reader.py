"""How a model's prompts hold images: the protocol that a family with images fulfils, and that of text models.

A reader makes token ids of a rendered text in which each image stands where its marker stands. Images whose codes
are tokens add ids of the vocabulary; images whose vectors replace token embeddings add the negative ids of
`types.Prompt` and its `PromptImage`s.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from unmask.checkpoints.tokenizer import Tokenizer, encode, render_text
from unmask.types import Image, Message, PromptImage


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """The part of a `Prompt` that the model reads: its `token_ids` and `images`."""

    token_ids: tuple[int, ...]
    images: tuple[PromptImage, ...] = ()


class ImageReader(Protocol):
    """How a model reads conversations with images."""

    @property
    def settings(self) -> str:
        """Everything its tokens follow from, for caches of them."""
        ...

    def conversation(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return the conversation that is rendered: with the family's system turn, where it has one."""
        ...

    def tokens(
        self, text: str, images: Sequence[Image], encode: Callable[[str], list[int]]
    ) -> PromptTokens:
        """Return the tokens of a rendered text.

        Args:
            text: with a marker for each image.
            images: in the order of their markers.
            encode: text to token ids.

        Raises:
            ValueError: naming the image that cannot be read; or there are more or fewer markers than images.
        """
        ...


class TextReader:
    """The reader of a text model, which refuses images."""

    @property
    def settings(self) -> str:
        """Nothing; see `ImageReader.settings`."""
        return ""

    def conversation(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return the messages."""
        return messages

    def tokens(
        self, text: str, images: Sequence[Image], encode: Callable[[str], list[int]]
    ) -> PromptTokens:
        """Return the tokens of a text; see `ImageReader.tokens`."""
        for image in images:
            raise ValueError(f"{image.name}: this model reads text only; leave the image out")
        return PromptTokens(tuple(encode(text)))


TEXT_ONLY = TextReader()


def prompt_tokens(
    messages: Sequence[Message], tokenizer: Tokenizer, reader: ImageReader = TEXT_ONLY
) -> PromptTokens:
    """Return the tokens of a conversation up to where the assistant's turn begins.

    Raises:
        ValueError: as `render_text` and `ImageReader.tokens`.
    """
    images = [image for message in messages for image in message.images]
    text = render_text(reader.conversation(messages), tokenizer)
    return reader.tokens(text, images, lambda part: encode(part, tokenizer))
