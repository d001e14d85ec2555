"""A toy model that reads pictures, and prompts that hold some."""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tests.engine.models import model_of
from unmask.models.transformer import Model
from unmask.types import Prompt, PromptImage

CAT, DOG = PromptImage(b"cat", 9), PromptImage(b"dog", 9)


def seeing_model(kind: str, dtype: torch.dtype = torch.float32) -> tuple[Model, Counter[bytes]]:
    """Return a model with random vectors for each picture, and the counts of how often one was encoded."""
    model = model_of(kind, dtype)
    model.backbone.vision = vision = RandomVision(model.spec.width, dtype)
    return model, vision.encoded


class RandomVision(nn.Module):
    """Random vectors for each digest.

    Attributes:
        encoded: how often each one was encoded.
    """

    def __init__(self, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.width, self.dtype, self.encoded = width, dtype, Counter[bytes]()

    def features(self, images: Sequence[PromptImage]) -> list[Tensor]:
        return [self._encoded(image) for image in images]

    def _encoded(self, image: PromptImage) -> Tensor:
        self.encoded[image.digest] += 1
        seed = int.from_bytes(hashlib.blake2b(image.digest, digest_size=4).digest())
        generator = torch.Generator().manual_seed(seed)
        size = image.count, self.width
        return torch.randn(size, generator=generator, dtype=torch.float64).to(self.dtype)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return torch.cat([*features])


def prompt_with(images: tuple[PromptImage, ...], before: int, seed: int = 0) -> Prompt:
    """Return `before` tokens, the pictures with a token after each, and three more tokens."""
    rng = random.Random(seed)
    ids = [rng.randrange(2, 20) for _ in range(before)]
    first = 0
    for image in images:
        ids += [*range(-1 - first, -1 - first - image.count, -1), rng.randrange(2, 20)]
        first += image.count
    ids += [rng.randrange(2, 20) for _ in range(3)]
    return Prompt("toy", 0, (), tuple(ids), images=images)
