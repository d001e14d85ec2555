"""From the vectors of an image's tiles to the vectors that stand in the sequence.

The tiles of the grid become one map, as the image was before it was cut. Rows or columns that are padding are
left out, a map that is too large is shrunk, and the newline vector ends every row. Result: the vectors of the
whole image, then the map's, row by row.
"""

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.models.vision.tiles import Tiles

# A map that exceeds its limit by less is left as it is.
TOLERATED = 1.1


def image_vectors(features: Tensor, tiles: Tiles, newline: Tensor, most_tiles: int) -> Tensor:
    """Return `(N, D)` vectors of an image.

    Args:
        features: `(tiles, side * side, D)`, projected.
        tiles: whose vectors they are.
        newline: `(D,)`.
        most_tiles: the map is shrunk to about as many vectors as so many tiles have.
    """
    whole = features[0]
    if tiles.grid is None:
        return torch.cat((whole, newline[None]))
    side = round(sqrt(len(whole)))
    columns, rows = tiles.grid
    # (rows, columns, side, side, D) to (D, rows * side, columns * side)
    cut = features[1:].view(rows, columns, side, side, -1)
    joined = cut.permute(4, 0, 2, 1, 3).reshape(-1, rows * side, columns * side)
    shrunk = _shrunk(_unpadded(joined, tiles.width, tiles.height), most_tiles * side**2)
    ended = torch.cat((shrunk, newline[:, None, None].expand(-1, shrunk.shape[1], 1)), 2)
    return torch.cat((whole, ended.flatten(1).T))


def _unpadded(image_map: Tensor, width: int, height: int) -> Tensor:
    """Return a map `(D, h, w)` without the rows or columns that the image does not reach."""
    map_height, map_width = image_map.shape[1:]
    if width / height > map_width / map_height:
        padding = (map_height - int(height * (map_width / width))) // 2
        return image_map[:, padding : map_height - padding]
    padding = (map_width - int(width * (map_height / height))) // 2
    return image_map[:, :, padding : map_width - padding]


def _shrunk(image_map: Tensor, most_vectors: int) -> Tensor:
    """Return a map `(D, h, w)` of about `most_vectors` vectors, if it has many more."""
    height, width = image_map.shape[1:]
    ratio = sqrt(height * width / most_vectors)
    if ratio <= TOLERATED:
        return image_map
    size = int(height // ratio), int(width // ratio)
    return F.interpolate(image_map[None], size, mode="bilinear", align_corners=False)[0]
