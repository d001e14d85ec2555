"""The vectors of the pictures in an engine's prompts: each distinct one stands in the table once.

Rows stay where they are while requests may refer to them. An idle engine drops them all when they take more
than `MOST_BYTES`.
"""

import torch
from torch import Tensor

from unmask.diffusion.image_vectors import distinct_images, table_ids, table_starts
from unmask.models.transformer import Model, stack_vectors
from unmask.types import Prompt, PromptImage

MOST_BYTES = 2**30


class ImageTable:
    """The table of one engine.

    Attributes:
        vectors: `(n, D)`; None while no prompt had a picture.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.vectors: Tensor | None = None
        self._images: list[PromptImage] = []

    def add(self, prompt: Prompt, model: Model, is_idle: bool = False) -> tuple[int, ...] | None:
        """Return the prompt's token ids, negative ones as rows of the table; `None` without pictures.

        New pictures are encoded.

        Args:
            prompt: with its `images`.
            model: that encodes them.
            is_idle: whether no request refers to the table.

        Raises:
            ValueError: if the model reads no pictures.
        """
        if not prompt.images:
            return None
        if is_idle and self.vectors is not None and self.vectors.nbytes > MOST_BYTES:
            self.clear()
        held = {image.digest for image in self._images}
        new = distinct_images(image for image in prompt.images if image.digest not in held)
        if (vectors := stack_vectors(model.image_vectors, new)) is not None:
            before = [] if self.vectors is None else [self.vectors]
            self.vectors = torch.cat((*before, vectors.to(model.device, model.dtype)))
            self._images += new
        ids = torch.tensor(prompt.token_ids)
        return tuple(table_ids(ids, prompt.images, table_starts(self._images)).tolist())

    def clear(self) -> None:
        """Drop all rows; no request may refer to them."""
        self.vectors = None
        self._images = []
