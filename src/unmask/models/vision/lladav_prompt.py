"""Token ids of LLaDA-V's prompts, and image vectors in the places of their markers.

The text of a conversation is cut at its markers, and the pieces are tokenized apart. Where the first one
begins with the start token, the published code drops the first token of each later one, normally the line
break after the marker. Inference, evaluation and dLLM-RL do so, LLaDA-V's own training does not; the
function below does, unless asked otherwise.

An image takes as many positions as it has vectors, where any token id may stand: its embedding is replaced.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unmask.images import MARKER, check_markers
from unmask.types import ImageSpan

# The published placeholder, in the place of a whole image.
IMAGE_ID = -200
SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that "
    "the user provides, and assist the user with a variety of tasks using natural language."
)


def text_pieces(text: str, num_images: int) -> list[str]:
    """Return the texts before, between and after the markers of a rendered conversation.

    Raises:
        ValueError: if there are more or fewer markers than images.
    """
    check_markers(text, num_images)
    return text.split(MARKER)


def joined_pieces(
    pieces: Sequence[Sequence[int]], start_id: int, drops_first: bool = True
) -> list[int]:
    """Return token ids with `IMAGE_ID` between the pieces.

    Args:
        pieces: token ids of each of `text_pieces`.
        start_id: the start token.
        drops_first: whether the first token of each later piece is dropped, see the module.
    """
    first, *others = pieces
    skipped = int(drops_first and len(first) > 0 and first[0] == start_id)
    return [*first, *(token for piece in others for token in (IMAGE_ID, *piece[skipped:]))]


def expanded(
    token_ids: Sequence[int], images: Sequence[tuple[bytes, int]], placeholder: int
) -> tuple[tuple[int, ...], tuple[ImageSpan, ...]]:
    """Return token ids with a position for each image vector, and where the images are.

    Args:
        token_ids: with `IMAGE_ID` for each image.
        images: digest and number of vectors of each, in order.
        placeholder: token id of the positions of images.

    Raises:
        ValueError: if there are more or fewer of `IMAGE_ID` than images.
    """
    count = sum(token == IMAGE_ID for token in token_ids)
    if count != len(images):
        raise ValueError(
            f"the prompt has places for {count} images, and there are {len(images)}: must be equal"
        )
    found, spans, remaining = list[int](), list[ImageSpan](), iter(images)
    for token in token_ids:
        if token != IMAGE_ID:
            found.append(token)
            continue
        digest, length = next(remaining)
        spans.append(ImageSpan(len(found), length, digest))
        found += [placeholder] * length
    return tuple(found), tuple(spans)


class Patches(NamedTuple):
    """Vectors that replace token embeddings.

    Attributes:
        rows: `(N,)` int64, positions; none twice.
        embeddings: `(N, D)`.
    """

    rows: Tensor
    embeddings: Tensor


def patches_of(spans: Sequence[ImageSpan], vectors: Iterable[Tensor], offset: int = 0) -> Patches:
    """Return the patches of a prompt.

    Args:
        spans: of its images, at least one.
        vectors: `(length, D)` of each image.
        offset: row of the prompt's first position.

    Raises:
        ValueError: if an image has more or fewer vectors than positions.
    """
    rows, embeddings = list[Tensor](), list[Tensor]()
    for span, found in zip(spans, vectors, strict=True):
        if len(found) != span.length:
            raise ValueError(
                f"an image at position {span.start} has {len(found)} vectors for {span.length} positions"
            )
        start = offset + span.start
        rows.append(torch.arange(start, start + span.length, device=found.device))
        embeddings.append(found)
    return Patches(torch.cat(rows), torch.cat(embeddings))


def lay_patches(embedded: Tensor, patches: Patches) -> Tensor:
    """Return token embeddings `(T, D)` with patches in their rows; gradients reach both."""
    return embedded.index_copy(0, patches.rows, patches.embeddings.to(embedded.dtype))
