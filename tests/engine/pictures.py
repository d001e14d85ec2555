"""A toy model that reads pictures, and prompts that hold some."""

import hashlib
import random
from collections import Counter

import torch
from torch import Tensor

from tests.engine.models import model_of
from unmask.models.transformer import Model
from unmask.types import Prompt, PromptImage

CAT, DOG = PromptImage(b"cat", 9), PromptImage(b"dog", 9)


def seeing_model(kind: str, dtype: torch.dtype = torch.float32) -> tuple[Model, Counter[bytes]]:
    """Return a model with random vectors for each picture, and the counts of how often one was encoded."""
    model, encoded = model_of(kind, dtype), Counter[bytes]()

    def encode(image: PromptImage) -> Tensor:
        encoded[image.digest] += 1
        seed = int.from_bytes(hashlib.blake2b(image.digest, digest_size=4).digest())
        generator = torch.Generator().manual_seed(seed)
        size = image.count, model.spec.width
        return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)

    model.image_vectors = encode
    return model, encoded


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
