"""The vectors of the pictures in an engine's prompts: each distinct one stands in the table once.

Rows stay where they are while requests may refer to them. An idle engine drops them all when they take more
than `MOST_BYTES`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unmask.diffusion.image_vectors import distinct_images, table_ids, table_starts
from unmask.models.transformer import Model, image_vectors
from unmask.types import Prompt, PromptImage

MOST_BYTES = 2**30


class ImageTable:
    """The table of one engine.

    Attributes:
        vectors: `(n, D)`, grown by doubling, because captured graphs hold its address; the rows behind those of
            the pictures are not read. It never shrinks: rows of a pass that no request owns still hold ids of
            requests that ended. None while no prompt had a picture.
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
        rows = self.vectors
        if is_idle and rows is not None and rows[: self._num_rows].nbytes > MOST_BYTES:
            self._images = []
        held = {image.digest for image in self._images}
        new = distinct_images(image for image in prompt.images if image.digest not in held)
        if new:
            self._append(_encoded(model, new))
            self._images += new
        ids = torch.tensor(prompt.token_ids)
        return tuple(table_ids(ids, prompt.images, table_starts(self._images)).tolist())

    def renew(self, model: Model, is_idle: bool) -> None:
        """Encode the pictures of running requests again with new weights; drop them where there are none."""
        if is_idle:
            self._images = []
        elif self.vectors is not None:
            self.vectors[: self._num_rows].copy_(_encoded(model, self._images))

    @property
    def _num_rows(self) -> int:
        return sum(image.count for image in self._images)

    def _append(self, rows: Tensor) -> None:
        start = self._num_rows
        stop = start + len(rows)
        if self.vectors is None or stop > len(self.vectors):
            grown = rows.new_zeros(max(stop, 2 * start), rows.shape[1])
            if self.vectors is not None:
                grown[:start] = self.vectors[:start]
            self.vectors = grown
        self.vectors[start:stop] = rows


@torch.no_grad()
def _encoded(model: Model, images: Sequence[PromptImage]) -> Tensor:
    vectors = image_vectors(model.backbone.vision, images)
    assert vectors is not None, "there are pictures"
    return vectors.to(model.device, model.dtype)
