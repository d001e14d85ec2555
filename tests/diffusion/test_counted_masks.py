"""Orders of positions within units, which exact numbers of hidden tokens are taken from."""

import torch

from unmask.diffusion.counted_masks import draw_orders, sizes_of
from unmask.diffusion.noise import NoiseSchedule

UNITS = torch.tensor([0, 0, 1, 1, 1, 1, 2, 2, 2, 4])
TRAINED = torch.tensor([1, 0, 1, 1, 0, 1, 1, 1, 1, 0], dtype=torch.bool)


def test_the_trained_positions_of_each_unit_are_ranked_from_0() -> None:
    rank, level = draw_orders(5, 40, UNITS, TRAINED, NoiseSchedule(0.0, 1.0, "block"))
    for unit, size in ((0, 1), (1, 3), (2, 3)):
        own = rank[:, (unit == UNITS) & TRAINED]
        assert torch.equal(own.sort(-1).values, torch.arange(size).expand(40, -1))
        assert (rank[:, (unit == UNITS) & ~TRAINED] >= size).all()
    assert (level[:, 2:6] == level[:, 2:3]).all() and not torch.equal(level[:, 0], level[:, 2])


def test_every_order_is_as_likely() -> None:
    rank, _ = draw_orders(0, 1200, UNITS, TRAINED, NoiseSchedule(0.0, 1.0, "block"))
    codes = rank[:, 6] * 9 + rank[:, 7] * 3 + rank[:, 8]
    counts = codes.bincount()
    assert sorted(counts[counts > 0].tolist())[0] > 150 and int((counts > 0).sum()) == 6


def test_sizes_count_trained_positions_and_are_never_0() -> None:
    assert sizes_of(UNITS, TRAINED).tolist() == [1, 1, 3, 3, 3, 3, 3, 3, 3, 1]
