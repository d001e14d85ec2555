"""Pictures among tokens: a negative id stands for a vector of a table, `-1 - r` for row r.

A prompt numbers the vectors of its own pictures. What passes through a model together (a pack, the sequences of
an engine) has one table, in which each distinct picture stands once.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from unmask.types import PromptImage, image_starts


def distinct_images(images: Iterable[PromptImage]) -> tuple[PromptImage, ...]:
    """Return each picture once, in the order in which they first occur: that of a table's vectors."""
    return tuple({image.digest: image for image in images}.values())


def table_starts(images: Sequence[PromptImage]) -> dict[bytes, int]:
    """Return the first row of each picture of a table, by its digest."""
    starts = image_starts(images)
    return {image.digest: start for image, start in zip(images, starts, strict=True)}


def table_ids(
    token_ids: Tensor, images: Sequence[PromptImage], starts: Mapping[bytes, int]
) -> Tensor:
    """Return token ids whose negative ones number the rows of a table.

    Args:
        token_ids: of any shape; negative ones number the vectors of `images`, one picture after another.
        images: of the prompt.
        starts: first row in the table of each picture, by its digest.
    """
    if not images:
        return token_ids
    rows = torch.cat([torch.arange(i.count) + starts[i.digest] for i in images])  # (vectors,)
    vector = (-1 - token_ids).clamp(min=0)
    return torch.where(token_ids < 0, -1 - rows[vector], token_ids)
