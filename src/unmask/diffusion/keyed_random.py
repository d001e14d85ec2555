"""Keyed random numbers: uniform draws that are a hash of their key.

A number depends on (request seed, position, denoising step of that sequence, purpose) only, so a response does
not change with the batch, the tick or the device: the hash runs in int64 tensor operations, which give the
same bits on CPU and CUDA.
"""

import torch
from torch import Tensor

from unmask.seeds import GOLDEN_GAMMA, MULTIPLIERS, SHIFTS

# Purposes: two numbers drawn for one position at one step must differ.
TOKEN = 0
ORDER = 1
NOISE_LEVEL = 2
NOISE = 3
CLASS = 4
PROMPT_NOISE = 5
VIEW = 6
HINT = 7


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _shift_right(state: Tensor, count: int) -> Tensor:
    # int64 shifts copy the sign bit; the hash needs zeros.
    return (state >> count) & (2 ** (64 - count) - 1)


def mix(state: Tensor) -> Tensor:
    """Return the SplitMix64 finaliser of int64 states; the tensor twin of `seeds.mix`."""
    state = (state ^ _shift_right(state, SHIFTS[0])) * _signed(MULTIPLIERS[0])
    state = (state ^ _shift_right(state, SHIFTS[1])) * _signed(MULTIPLIERS[1])
    return state ^ _shift_right(state, SHIFTS[2])


def uniform(seed: Tensor, position: Tensor, step: Tensor, purpose: int) -> Tensor:
    """Return float64 numbers in [0, 1), one per broadcast element of the int64 keys."""
    state = seed
    for part in (position, step, torch.full((), purpose, device=seed.device)):
        state = mix(state + (part + 1) * _signed(GOLDEN_GAMMA))
    return _shift_right(state, 11).double() * 2.0**-53
