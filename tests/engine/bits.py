"""Whether a row's bits on this CPU are independent of the other rows, and closeness where they are not."""

import warnings
from dataclasses import replace
from functools import cache

import pytest
import torch

from tests.engine.models import KINDS, model_of
from unmask.models.row_tile import inexact
from unmask.types import Trajectory

NUMBERS = ("behavior_logprobs", "raw_logprobs", "entropies")


@cache
def bits_hold() -> bool:
    """Return whether a row's values on this CPU are independent of the other rows and the padding."""
    return not any(inexact(model_of(kind, torch.float32)) for kind in KINDS)


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
