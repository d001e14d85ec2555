"""Random numbers are keyed by what they decide, with the same bits in Python and in tensors."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from unmask.diffusion import keyed_random
from unmask.seeds import GOLDEN_GAMMA
from unmask.seeds import mix as mix_numbers

INT64 = st.integers(-(2**63), 2**63 - 1)
KEY = st.integers(0, 2**63 - 1)


def uniform(seed: int, position: int, step: int, purpose: int) -> float:
    return float(
        keyed_random.uniform(
            torch.tensor(seed), torch.tensor(position), torch.tensor(step), purpose
        )
    )


@given(st.lists(INT64, min_size=1, max_size=8))
def test_the_tensor_hash_is_the_python_hash(states: list[int]) -> None:
    expected = [mix_numbers(state % 2**64) for state in states]
    assert [n % 2**64 for n in keyed_random.mix(torch.tensor(states)).tolist()] == expected


@given(KEY, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 3))
def test_a_number_is_the_hash_of_its_key(seed: int, position: int, step: int, purpose: int) -> None:
    state = seed
    for part in (position, step, purpose):
        state = mix_numbers((state + (part + 1) * GOLDEN_GAMMA) % 2**64)
    number = uniform(seed, position, step, purpose)
    assert number == (state >> 11) / 2**53
    assert 0 <= number < 1


@given(KEY, st.integers(0, 999), st.integers(0, 999), st.integers(0, 3))
def test_every_part_of_the_key_counts(seed: int, position: int, step: int, purpose: int) -> None:
    numbers = {
        uniform(seed, position, step, purpose),
        uniform(seed ^ 1, position, step, purpose),
        uniform(seed, position + 1, step, purpose),
        uniform(seed, position, step + 1, purpose),
        uniform(seed, position, step, purpose + 1),
    }
    assert len(numbers) == 5


def test_purposes_differ() -> None:
    assert (
        len({keyed_random.TOKEN, keyed_random.ORDER, keyed_random.NOISE_LEVEL, keyed_random.NOISE})
        == 4
    )


def test_a_number_does_not_depend_on_its_neighbours() -> None:
    seeds, positions = torch.tensor([[3], [4]]), torch.arange(5)
    together = keyed_random.uniform(seeds, positions, torch.tensor(2), keyed_random.TOKEN)
    assert together.shape == (2, 5)
    assert float(together[1, 3]) == uniform(4, 3, 2, keyed_random.TOKEN)


def test_numbers_fill_the_interval_evenly_and_without_memory() -> None:
    steps, positions = torch.arange(100)[:, None], torch.arange(1000)
    numbers = keyed_random.uniform(torch.tensor(0), positions, steps, keyed_random.NOISE)
    counts = torch.histc(numbers, bins=10, min=0, max=1)
    assert (counts - 10_000).abs().max() < 500  # five standard deviations
    for first, second in ((numbers[:, 1:], numbers[:, :-1]), (numbers[1:], numbers[:-1])):
        pair = torch.corrcoef(torch.stack((first.flatten(), second.flatten())))
        assert abs(float(pair[0, 1])) < 0.015
