"""The vectors of the pictures in an engine's prompts: each distinct one stands in the table once.

Pictures are encoded when a request is admitted: one that waits takes no memory. Rows stay where they are while running
requests refer to them. When they take more than `MOST_BYTES`, those of pictures
that no request refers to are written over by new ones, so that a server under steady load does not grow.
"""

from collections.abc import Callable, Iterable, Sequence, Set

import torch
from torch import Tensor

from unmask.diffusion.image_vectors import distinct_images, table_ids
from unmask.models.transformer import Model, image_vectors
from unmask.types import Prompt, PromptImage

MOST_BYTES = 2**30


class ImageTable:
    """The table of one engine.

    Attributes:
        vectors: `(n, D)`, grown by doubling, because captured graphs hold its address; the rows of no
            picture are not read. It never shrinks: rows of a pass that no request owns still hold ids of
            requests that ended. None while no prompt had a picture.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.vectors: Tensor | None = None
        self._images: dict[bytes, PromptImage] = {}  # by digest
        self._starts: dict[bytes, int] = {}  # first row of each

    @torch.inference_mode(False)  # inference tensors could not be changed by `renew`
    def add(
        self, prompt: Prompt, model: Model, in_use: Callable[[], Iterable[Prompt]]
    ) -> tuple[int, ...] | None:
        """Return the prompt's token ids, negative ones as rows of the table; `None` without pictures.

        New pictures are encoded.

        Args:
            prompt: with its `images`.
            model: that encodes them.
            in_use: prompts of running requests, whose rows must stay.

        Raises:
            ValueError: if the model reads no pictures.
        """
        if not prompt.images:
            return None
        new = distinct_images(i for i in prompt.images if i.digest not in self._images)
        if new:
            vectors = _encoded(model, new)
            row_bytes = vectors[0].nbytes
            if sum(image.count for image in self._images.values()) * row_bytes > MOST_BYTES:
                self._keep({i.digest for one in (prompt, *in_use()) for i in one.images})
            self._images |= {image.digest: image for image in new}
            for image, rows in zip(new, vectors.split([i.count for i in new]), strict=True):
                self._place(image, rows)
        ids = torch.tensor(prompt.token_ids)
        return tuple(table_ids(ids, prompt.images, self._starts).tolist())

    def renew(self, model: Model, is_idle: bool) -> None:
        """Encode the pictures of running requests again with new weights; drop them where there are none."""
        if is_idle:
            self._keep(set())
        elif self.vectors is not None and self._images:
            images = [*self._images.values()]
            rows = _encoded(model, images).split([image.count for image in images])
            for image, own in zip(images, rows, strict=True):
                start = self._starts[image.digest]
                self.vectors[start : start + image.count] = own

    def _keep(self, digests: Set[bytes]) -> None:
        """Drop all other pictures; their rows are free."""
        self._images = {key: image for key, image in self._images.items() if key in digests}
        self._starts = {key: start for key, start in self._starts.items() if key in digests}

    def _place(self, image: PromptImage, rows: Tensor) -> None:
        """Write the rows of a picture into the first gap that holds them, or behind the last one."""
        start = 0
        for digest in sorted(self._starts, key=self._starts.__getitem__):
            if self._starts[digest] - start >= len(rows):
                break
            start = self._starts[digest] + self._images[digest].count
        stop = start + len(rows)
        if self.vectors is None or stop > len(self.vectors):
            grown = rows.new_zeros(max(stop, 2 * start), rows.shape[1])
            if self.vectors is not None:
                grown[: len(self.vectors)] = self.vectors
            self.vectors = grown
        self.vectors[start:stop] = rows
        self._starts[image.digest] = start


@torch.no_grad()
def _encoded(model: Model, images: Sequence[PromptImage]) -> Tensor:
    vectors = image_vectors(model.backbone.vision, images)
    assert vectors is not None, "there are pictures"
    return vectors.to(model.device, model.dtype)
