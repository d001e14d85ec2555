"""The vision side of LLaDA-V: a SigLIP tower, a projector of two layers, and the newline vector.

You et al., "LLaDA-V: Large Language Diffusion Models with Visual Instruction Tuning" (2025).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unmask.models.vision.image_map import image_vectors
from unmask.models.vision.siglip import SiglipSpec, SiglipTower
from unmask.models.vision.tiles import Tiles, grid_of, tiles_of

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


@dataclass(frozen=True, slots=True)
class LladavVisionSpec:
    """Sizes of the vision side.

    Attributes:
        width: of the language model.
        tower: sizes of the tower.
        grids: widths and heights of the grids of tiles, in pixels; `None` for one padded tile.
        most_tiles: limit of the map of a grid, see `image_map`.
    """

    width: int
    tower: SiglipSpec = field(default_factory=SiglipSpec)
    grids: tuple[tuple[int, int], ...] | None = None
    most_tiles: int = 4

    def num_vectors(self, width: int, height: int) -> int:
        """Return the number of vectors of an image of a size in pixels, without running the tower."""
        grid = grid_of(width, height, self.tower.image_size, self.grids)
        num_tiles = 1 if grid is None else 1 + grid[0] * grid[1]
        features = torch.empty(num_tiles, self.tower.side**2, 1, device="meta")
        tiles = Tiles(features, grid, width, height)
        return len(image_vectors(features, tiles, features[0, 0], self.most_tiles))


class LladavVision(nn.Module):
    """The vision side: from tiles to the vectors of a sequence.

    Args:
        spec: its sizes.
    """

    def __init__(self, spec: LladavVisionSpec) -> None:
        super().__init__()
        self.spec = spec
        self.tower = SiglipTower(spec.tower)
        self.projector = nn.Sequential(
            nn.Linear(spec.tower.width, spec.width), nn.GELU(), nn.Linear(spec.width, spec.width)
        )
        self.newline = nn.Parameter(torch.empty(spec.width))

    def tiles(self, picture: "Picture") -> Tiles:
        """Return the tiles of an RGB image."""
        return tiles_of(picture, self.spec.tower.image_size, self.spec.grids)

    def forward(self, tiles: Tiles) -> Tensor:
        """Return `(N, D)` vectors of one image."""
        pixels = tiles.pixels.to(self.newline)  # its device and number format
        features = self.projector(self.tower(pixels))
        return image_vectors(features, tiles, self.newline, self.spec.most_tiles)
