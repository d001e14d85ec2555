"""The vectors of the pictures in an engine's sequences: each distinct one stands in the table once.

Pictures are encoded when a request is admitted. Rows stay where they are while a running request refers to them;
the pictures of requests that ended are kept until all together take more than `MOST_BYTES`.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from unmask.diffusion.image_vectors import distinct_images, table_ids
from unmask.models.transformer import Model, image_vectors
from unmask.types import Prompt, PromptImage

MOST_BYTES = 2**30


class ImageTable:
    """The table of one engine.

    Attributes:
        vectors: `(n, D)`, grown by doubling, because captured graphs hold its address; the rows between and behind
            those of the pictures are not read. It never shrinks: rows of a pass that no request owns still hold
            ids of requests that ended. None while no prompt had a picture.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.vectors: Tensor | None = None
        # Digest to the first row and the picture, in the order of the rows.
        self._held: dict[bytes, tuple[int, PromptImage]] = {}

    # Inference tensors could not be changed by `renew`.
    @torch.inference_mode(False)
    def add(
        self, prompt: Prompt, model: Model, running: Iterable[Prompt] = ()
    ) -> tuple[int, ...] | None:
        """Return the prompt's token ids, negative ones as rows of the table; `None` without pictures.

        New pictures are encoded.

        Args:
            prompt: with its `images`.
            model: that encodes them.
            running: prompts whose pictures keep their rows.

        Raises:
            ValueError: if the model reads no pictures, or one cannot be read.
        """
        if not prompt.images:
            return None
        new = distinct_images(i for i in prompt.images if i.digest not in self._held)
        if new:
            parts = _encoded(model, new)
            if self._num_rows * parts[0][0].nbytes + sum(p.nbytes for p in parts) > MOST_BYTES:
                used = {image.digest for one in (prompt, *running) for image in one.images}
                self._held = {d: held for d, held in self._held.items() if d in used}
            for image, rows in zip(new, parts, strict=True):
                self._put(image, rows)
        starts = {digest: start for digest, (start, _) in self._held.items()}
        return tuple(table_ids(torch.tensor(prompt.token_ids), prompt.images, starts).tolist())

    def renew(self, model: Model, is_idle: bool) -> None:
        """Encode the pictures of running requests again with new weights; drop them where there are none."""
        if is_idle:
            self._held = {}
        if not self._held:
            return
        assert self.vectors is not None, "it holds pictures"
        images = [image for _, image in self._held.values()]
        for (start, image), rows in zip(self._held.values(), _encoded(model, images), strict=True):
            self.vectors[start : start + image.count] = rows

    @property
    def _num_rows(self) -> int:
        return sum(image.count for _, image in self._held.values())

    def _put(self, image: PromptImage, rows: Tensor) -> None:
        """Write the vectors of a picture to the first rows that are free."""
        start = 0
        for first, other in self._held.values():
            if first - start >= image.count:
                break
            start = first + other.count
        size = 0 if self.vectors is None else len(self.vectors)
        if start + image.count > size:
            grown = rows.new_zeros(max(start + image.count, 2 * size), rows.shape[1])
            if self.vectors is not None:
                grown[:size] = self.vectors
            self.vectors = grown
        assert self.vectors is not None, "it has grown"
        self.vectors[start : start + image.count] = rows
        held = {**self._held, image.digest: (start, image)}
        self._held = dict(sorted(held.items(), key=lambda item: item[1][0]))


@torch.no_grad()
def _encoded(model: Model, images: Sequence[PromptImage]) -> Sequence[Tensor]:
    """Return the vectors of each picture."""
    vectors = image_vectors(model.backbone.vision, images)
    assert vectors is not None, "there are pictures"
    return vectors.to(model.device, model.dtype).split([image.count for image in images])
