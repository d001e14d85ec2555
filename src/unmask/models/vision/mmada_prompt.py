"""Token layouts of MMaDA: an image's codes are tokens of the one vocabulary, behind the text's.

    understanding    mmu soi c_1 ... c_N eoi, then the conversation's text
    text-to-image    [iPAD] ... t2i BOS text EOS, filled on the left to a fixed length, then soi c_1 ... c_N eoi

Code c is token `image_offset + c`. The offset is a stored number: the tokenizer's length, which gives it,
moves when a token is added. Text-to-image attends to everything except the filling; the prompt of guidance
holds the empty text.

Yang et al., "MMaDA: Multimodal Large Diffusion Language Models" (2025).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class MmadaIds:
    """Token ids of the layouts; the defaults are the released checkpoints'.

    Attributes:
        image_offset: id of code 0.
        num_codes: number of different codes.
        side: codes of an image in each direction.
    """

    image_offset: int = 126349
    num_codes: int = 8192
    side: int = 32
    mask: int = 126336
    start_of_text: int = 126080
    end_of_text: int = 126081
    start_of_image: int = 126084
    end_of_image: int = 126085
    text_to_image: int = 126088
    understanding: int = 126089
    filling: int = 126093


def image_tokens(codes: Sequence[int], ids: MmadaIds) -> list[int]:
    """Return the token ids of an image: its codes, row by row, between start and end.

    Raises:
        ValueError: if a code does not exist.
    """
    for code in codes:
        if not 0 <= code < ids.num_codes:
            raise ValueError(f"image code {code}: must be from 0 to {ids.num_codes - 1}")
    return [ids.start_of_image, *(ids.image_offset + code for code in codes), ids.end_of_image]


def understanding_prompt(codes: Sequence[int], text_ids: Sequence[int], ids: MmadaIds) -> list[int]:
    """Return the prompt of a question about an image.

    Args:
        codes: of the image.
        text_ids: of the conversation, up to where the assistant's turn begins.
        ids: of the model.

    Raises:
        ValueError: as `image_tokens`.
    """
    return [ids.understanding, *image_tokens(codes, ids), *text_ids]


@dataclass(frozen=True, slots=True)
class TextToImagePrompt:
    """A sequence whose codes are to be drawn.

    Attributes:
        token_ids: `(L,)`; the mask id where codes are hidden.
        is_read: `(L,)` bool; false at the filling, which nothing attends to.
        first_code: position of the first code; the end of the image follows the last one.
    """

    token_ids: Tensor
    is_read: Tensor
    first_code: int

    def allowed(self) -> Tensor:
        """Return `(1, L, L)` bool, the keys that each query attends to."""
        return (self.is_read[:, None] & self.is_read[None])[None]

    def with_codes(self, codes: Tensor, ids: MmadaIds) -> Tensor:
        """Return `(1, L)` token ids with `codes (N,)` in their places; the mask id for code -1."""
        tokens = torch.where(codes < 0, ids.mask, codes + ids.image_offset)
        places = torch.arange(self.first_code, self.first_code + len(codes))
        return self.token_ids.index_copy(0, places, tokens)[None]

    def code_logits(self, logits: Tensor, num_codes: int, ids: MmadaIds) -> Tensor:
        """Return `(N, num_codes)` logits of the codes from `logits (1, L, V)` of the model."""
        places = slice(self.first_code, self.first_code + num_codes)
        return logits[0, places, ids.image_offset : ids.image_offset + ids.num_codes]


def text_to_image_prompt(
    text_ids: Sequence[int], num_codes: int, max_text: int, ids: MmadaIds
) -> TextToImagePrompt:
    """Return the sequence of a text and a hidden image; an empty text gives that of guidance.

    Args:
        text_ids: of the text alone, without special tokens.
        num_codes: of the image.
        max_text: number of positions of text with its start and end (512 in released checkpoints).
        ids: of the model.

    Raises:
        ValueError: if the text is too long; the published code cuts it.
    """
    text = [ids.start_of_text, *text_ids, ids.end_of_text]
    if len(text) > max_text:
        raise ValueError(
            f"the text has {len(text)} tokens with its start and end, of {max_text} that a "
            "text-to-image prompt may have: shorten it"
        )
    filled = max_text - len(text)
    image = [ids.start_of_image, *(ids.mask for _ in range(num_codes)), ids.end_of_image]
    tokens = [*(ids.filling for _ in range(filled)), ids.text_to_image, *text, *image]
    positions = torch.arange(len(tokens))
    return TextToImagePrompt(torch.tensor(tokens), positions >= filled, max_text + 2)
