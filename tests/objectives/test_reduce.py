"""Every reduction against plain loops over nested lists."""

from itertools import chain
from statistics import fmean

import pytest
import torch

from unmask.objectives.reduce import position_weights, reduction_weights
from unmask.types import PositionReduction

# trajectory -> view -> loss of each target
LOSSES = [[[1.0, 2.0], [5.0]], [[3.0, 4.0, 8.0]], [[1.0], [7.0], [2.0, 9.0]]]
# The same, with views that have no target and a trajectory of nothing else.
WITH_EMPTY = [[[], *LOSSES[0]], [[], []], LOSSES[1], [LOSSES[2][0], [], *LOSSES[2][1:]]]
LENGTH = 16


def by_loops(reduction: str) -> float:
    """Average the losses as in the docstring of `reduce`, without tensors."""
    views = list(chain.from_iterable(LOSSES))
    match reduction:
        case "tokens":
            return fmean(chain.from_iterable(views))
        case "sequence":
            return fmean(fmean(chain.from_iterable(trajectory)) for trajectory in LOSSES)
        case "view":
            return fmean(fmean(view) for view in views)
        case "constant":
            return sum(map(sum, views)) / (len(views) * LENGTH)
        case _:
            raise AssertionError(reduction)


@pytest.mark.parametrize("losses", [LOSSES, WITH_EMPTY], ids=["plain", "with empty views"])
@pytest.mark.parametrize("reduction", ["tokens", "sequence", "view", "constant"])
def test_weights_and_denominator_give_the_average_of_plain_loops(
    reduction: str, losses: list[list[list[float]]]
) -> None:
    """Views without targets are left out of every average."""
    counts = [torch.tensor([len(view) for view in trajectory]) for trajectory in losses]
    weights, denominator = reduction_weights(counts, reduction, LENGTH)  # pyright: ignore[reportArgumentType]
    total = sum(
        float(weight) * sum(view)
        for trajectory, of_views in zip(losses, weights, strict=True)
        for view, weight in zip(trajectory, of_views, strict=True)
    )
    assert [len(w) for w in weights] == [len(t) for t in losses]
    assert all(w.isfinite().all() for w in weights)
    assert total / denominator == pytest.approx(by_loops(reduction))


@pytest.mark.parametrize("reduction", ["tokens", "sequence", "view", "constant"])
def test_no_trajectories_reduce_to_nothing(reduction: str) -> None:
    assert reduction_weights([], reduction, LENGTH) == ([], 0.0)  # pyright: ignore[reportArgumentType]


POSITIONS = [[1.0, 2.0, 6.0], [5.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("tokens", 21 / 6),
        ("sequence", fmean([3.0, 5.0, 3.5])),
        ("constant", 21 / (3 * LENGTH)),
    ],
)
def test_positions_of_responses_are_averaged_alike(
    reduction: PositionReduction, expected: float
) -> None:
    weights = position_weights([len(of_one) for of_one in POSITIONS], reduction, LENGTH)
    pairs = zip(weights, POSITIONS, strict=True)
    assert sum(weight * sum(of_one) for weight, of_one in pairs) == pytest.approx(expected)
