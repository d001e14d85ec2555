"""Token layouts of MMaDA: an image's codes are tokens of the one vocabulary, behind the text's.

    understanding    mmu soi c_1 ... c_N eoi, then the conversation's text
    text-to-image    t2i BOS text EOS soi c_1 ... c_N eoi

Code c is token `image_offset + c`. The offset is a stored number: the tokenizer's length, which gives it,
moves when a token is added. The published prompts of text-to-image are filled on the left, with `[iPAD]`, to a
fixed length. No token attends to the filling and rotary positions are relative, so it is left out: logits are
equal up to rounding. The prompt of guidance holds the empty text.

Yang et al., "MMaDA: Multimodal Large Diffusion Language Models" (2025).
"""

from collections.abc import Sequence
from dataclasses import dataclass

# Tokens of text in a text-to-image prompt of released checkpoints, with its start and end.
MOST_TEXT = 512


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


def is_image(token_ids: Sequence[int], ids: MmadaIds) -> bool:
    """Return whether tokens are all codes of an image and the token of its end."""
    last = ids.image_offset + ids.num_codes - 1
    are_codes = all(ids.image_offset <= token <= last for token in token_ids[:-1])
    return are_codes and len(token_ids) == ids.side**2 + 1 and token_ids[-1] == ids.end_of_image


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


def drawing_prompt(
    text_ids: Sequence[int], ids: MmadaIds, most_tokens: int = MOST_TEXT
) -> list[int]:
    """Return the prompt of an image that is to be drawn; an empty text gives that of guidance.

    Args:
        text_ids: of the text alone, without special tokens.
        ids: of the model.
        most_tokens: of text with its start and end.

    Raises:
        ValueError: if the text is too long; the published code cuts it.
    """
    text = [ids.start_of_text, *text_ids, ids.end_of_text]
    if len(text) > most_tokens:
        raise ValueError(
            f"the text has {len(text)} tokens with its start and end, of {most_tokens} that a "
            "text-to-image prompt may have: shorten it"
        )
    return [ids.text_to_image, *text, ids.start_of_image]
