"""Token ids of LLaDA-V's prompts, with those of image vectors in the places of their markers.

The text of a conversation is cut at its markers, and the pieces are tokenized apart. Where the first one
begins with the start token, the published code drops the first token of each later one, normally the line
break after the marker. Inference, evaluation and dLLM-RL do so, LLaDA-V's own training does not; the
function below does, unless asked otherwise.

An image takes as many positions as it has vectors; the j-th vector of a prompt has the id `-1 - j`, as
`types.Prompt` has it, and stands in the sequence in place of a token's embedding.
"""

from collections.abc import Sequence
from itertools import chain

from unmask.images import MARKER, check_markers
from unmask.types import PromptImage, image_starts

# The published placeholder, in the place of a whole image.
IMAGE_ID = -200


def text_pieces(text: str, num_images: int) -> list[str]:
    """Return the texts before, between and after the markers of a rendered conversation.

    Raises:
        ValueError: if there are more or fewer markers than images.
    """
    check_markers(text, num_images)
    return text.split(MARKER)


def joined_pieces(
    pieces: Sequence[Sequence[int]], start_id: int | None, drops_first: bool = True
) -> list[int]:
    """Return token ids with `IMAGE_ID` between the pieces.

    Args:
        pieces: token ids of each of `text_pieces`.
        start_id: the start token, if there is one.
        drops_first: whether the first token of each later piece is dropped, see the module.
    """
    first, *others = pieces
    skipped = int(drops_first and len(first) > 0 and first[0] == start_id)
    return [*first, *(token for piece in others for token in (IMAGE_ID, *piece[skipped:]))]


def expanded(token_ids: Sequence[int], images: Sequence[PromptImage]) -> tuple[int, ...]:
    """Return the token ids of a `Prompt`: in the place of each image, the negative ids of its vectors.

    Args:
        token_ids: with `IMAGE_ID` for each image.
        images: in order.

    Raises:
        ValueError: if there are more or fewer of `IMAGE_ID` than images.
    """
    count = sum(token == IMAGE_ID for token in token_ids)
    if count != len(images):
        raise ValueError(
            f"the prompt has places for {count} images, and there are {len(images)}: must be equal"
        )
    firsts = zip(image_starts(images), images, strict=True)
    vectors = (range(-1 - first, -1 - first - image.count, -1) for first, image in firsts)
    found = ((token,) if token != IMAGE_ID else next(vectors) for token in token_ids)
    return tuple(chain.from_iterable(found))
