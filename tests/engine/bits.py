"""Whether this CPU keeps the bits of a row whatever stands beside it, and sameness where it does not."""

import warnings
from dataclasses import replace
from functools import cache

import pytest
import torch

from unmask.models.attention import attend_rows
from unmask.types import Trajectory


@cache
def bits_hold() -> bool:
    """Say whether a row's attention on this CPU is independent of the rows and the padding beside it."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 1024, 2, 32, generator=generator) for _ in range(3))
    for visible in (20, 100, 200, 700):
        outputs = []
        for rows, keys in ((4, 128), (16, 512), (64, 1024)):
            keys = max(keys, -(-visible // 512) * 512) if visible > 128 else keys
            mask = (torch.arange(keys) < visible).expand(1, 1, rows, keys)
            outputs.append(attend_rows(q[:, :rows], k[:, :keys], v[:, :keys], mask)[:, :4])
        if not all(torch.equal(outputs[0], other) for other in outputs):
            return False
    return True


def exact_dtype() -> torch.dtype:
    """Return fp32; fp64, and say so, where the CPU does not keep the bits."""
    if bits_hold():
        return torch.float32
    warnings.warn(
        "this CPU's attention depends on padding: sameness is tested on tokens in fp64",
        stacklevel=2,
    )
    return torch.float64


def assert_same(written: list[Trajectory], expected: list[Trajectory], exact: bool = True) -> None:
    """Assert that trajectories are equal; log-probabilities only nearly where bits are not kept."""
    if exact and bits_hold():
        assert written == expected
        return
    for one, other in zip(written, expected, strict=True):
        assert one.behavior_logprobs == pytest.approx(other.behavior_logprobs, abs=1e-12)
        assert one == replace(other, behavior_logprobs=one.behavior_logprobs)
