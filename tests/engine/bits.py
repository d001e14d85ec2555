"""Whether this CPU keeps the bits of a row whatever stands beside it, and sameness where it does not."""

import warnings
from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from unmask.models.attention import KEY_CHUNK, ROW_TILE, attend_chunks
from unmask.types import Trajectory

NUMBERS = ("behavior_logprobs", "raw_logprobs", "entropies")


@cache
def bits_hold() -> bool:
    """Say whether a row's numbers on this CPU are independent of the rows and the padding beside it."""
    return _attention_holds() and _products_hold()


def _attention_holds() -> bool:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 2, 64, 16, generator=generator)  # two heads share each of the keys'
    keys, values = (torch.randn(2, 12 * KEY_CHUNK, 16, generator=generator) for _ in range(2))
    for visible in (20, 64, 100, 200, 700):
        least = -(-visible // KEY_CHUNK)
        outputs = []
        for rows, chunks in ((4, least), (16, least + 1), (64, 12)):
            hidden = (torch.arange(chunks * KEY_CHUNK) >= visible).expand(1, 1, rows, -1)
            some = slice(chunks * KEY_CHUNK)
            folded = q[:, :, :rows].flatten(1, 2)
            mixed = attend_chunks(folded, keys[:, some], values[:, some], hidden)
            outputs.append(mixed.view(2, 2, rows, 16)[:, :, :4])
        if not all(torch.equal(outputs[0], other) for other in outputs):
            return False
    return True


def _products_hold() -> bool:
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(256, 64, generator=generator) for _ in range(2))
    whole = F.linear(x, weight)
    counts = (ROW_TILE, 2 * ROW_TILE, 5 * ROW_TILE)
    return all(torch.equal(F.linear(x[:n], weight), whole[:n]) for n in counts)


def exact_dtype() -> torch.dtype:
    """Return fp32; fp64, and say so, where the CPU does not keep the bits."""
    if bits_hold():
        return torch.float32
    warnings.warn(
        "this CPU's arithmetic depends on padding: sameness is tested on tokens in fp64",
        stacklevel=2,
    )
    return torch.float64


def assert_same(written: list[Trajectory], expected: list[Trajectory], exact: bool = True) -> None:
    """Assert that trajectories are equal; log-probabilities only nearly where bits are not kept."""
    if exact and bits_hold():
        assert written == expected
        return
    for one, other in zip(written, expected, strict=True):
        numbers = {name: getattr(one, name) for name in NUMBERS}
        for name, values in numbers.items():
            assert values == pytest.approx(getattr(other, name), abs=1e-12), name
        assert one == replace(other, **numbers)


def unpriced(trajectories: list[Trajectory]) -> list[Trajectory]:
    """Return trajectories without the count of forwards, which chunks and interruptions may raise."""
    return [replace(trajectory, num_forwards=0) for trajectory in trajectories]
