"""The order of an image's vectors, on features that state their place."""

import pytest
import torch
from torch import Tensor

from unmask.models.vision.image_map import image_vectors
from unmask.models.vision.tiles import Tiles

SIDE = 4


def place_features(columns: int, rows: int) -> Tensor:
    """Return features `(1 + tiles, side * side, 2)` that hold row and column of the whole map."""
    features = torch.full((1 + columns * rows, SIDE * SIDE, 2), -1.0)
    for tile in range(columns * rows):
        for patch in range(SIDE * SIDE):
            row = tile // columns * SIDE + patch // SIDE
            column = tile % columns * SIDE + patch % SIDE
            features[1 + tile, patch] = torch.tensor([row, column])
    return features


def tiles(grid: tuple[int, int] | None, width: int, height: int) -> Tiles:
    return Tiles(torch.empty(0), grid, width, height)


NEWLINE = torch.tensor([-2.0, -2.0])


@pytest.mark.parametrize(
    ("width", "height", "rows", "columns"),
    [
        (200, 300, range(12), range(8)),  # fills the grid of 2 x 3 tiles
        (200, 150, range(3, 9), range(8)),  # half of the rows are padding
        (100, 300, range(12), range(2, 6)),  # half of the columns are
        (1, 300, range(12), range(4, 4)),  # a line of less than a column
    ],
)
def test_rows_of_the_map_end_with_the_newline(
    width: int, height: int, rows: range, columns: range
) -> None:
    vectors = image_vectors(place_features(2, 3), tiles((2, 3), width, height), NEWLINE, 99)
    expected = [[-1.0, -1.0]] * SIDE**2
    for row in rows:
        expected += [*([float(row), float(column)] for column in columns), [-2.0, -2.0]]
    assert vectors.tolist() == expected


def test_a_large_map_is_shrunk() -> None:
    """6 x 6 tiles of 16 vectors to 4 tiles: a third in each direction; the centres of 3 x 3 remain."""
    vectors = image_vectors(place_features(6, 6), tiles((6, 6), 100, 100), NEWLINE, 4)
    found = vectors[SIDE**2 :].view(8, 9, 2)
    places = torch.arange(8) * 3.0 + 1
    assert torch.equal(found[:, :8, 0], places[:, None].expand(8, 8))
    assert torch.equal(found[:, :8, 1], places.expand(8, 8))
    assert found[:, 8].eq(-2).all()


def test_a_map_a_little_too_large_stays() -> None:
    assert len(image_vectors(place_features(2, 2), tiles((2, 2), 9, 9), NEWLINE, 4)) == 16 + 8 * 9


def test_one_tile_ends_with_the_newline() -> None:
    vectors = image_vectors(place_features(1, 1)[:1], tiles(None, 9, 9), NEWLINE, 4)
    assert vectors.tolist() == [[-1.0, -1.0]] * SIDE**2 + [[-2.0, -2.0]]
