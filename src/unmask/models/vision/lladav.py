"""The vision side of LLaDA-V: a SigLIP tower, a projector of two layers, and the newline vector.

You et al., "LLaDA-V: Large Language Diffusion Models with Visual Instruction Tuning" (2025).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from unmask.models.vision.image_codec import decode_image
from unmask.models.vision.image_map import image_vectors
from unmask.models.vision.siglip import SiglipSpec, SiglipTower
from unmask.models.vision.tiles import Tiles, grid_of, tiles_of
from unmask.types import PromptImage

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


# Features that are kept: 250 images of released checkpoints in bf16.
MOST_BYTES = 2**30


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


class TileFeatures(NamedTuple):
    """An image on its way to a sequence.

    Attributes:
        values: output of a frozen tower, `(tiles, side * side, width)`; pixels `(tiles, 3, size, size)`
            where the tower is trained, and so runs in the model's own pass.
        tiles: how they lie in the image, without pixels.
    """

    values: Tensor
    tiles: Tiles


class LladavVision(nn.Module):
    """The vision side: from the files of images to the vectors of a sequence.

    `features` is the part that no gradient passes: files are decoded and, where the tower is frozen, encoded
    once per distinct image. `forward` is the trained part.

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
        self.requires_grad_(False)  # `models/trained_parts.py` decides otherwise
        # Digest to features, the latest last; of the tower's weights at `_version`.
        self._kept: dict[bytes, TileFeatures] = {}
        self._version = 0

    @property
    def is_tower_trained(self) -> bool:
        """Whether gradients reach the tower."""
        return self.tower.positions.weight.requires_grad

    def tiles(self, picture: "Picture") -> Tiles:
        """Return the tiles of an RGB image."""
        return tiles_of(picture, self.spec.tower.image_size, self.spec.grids)

    def features(self, images: Sequence[PromptImage]) -> list[TileFeatures]:
        """Return the features of images, each decoded and encoded once while it is kept.

        Raises:
            ValueError: naming the image that cannot be read.
        """
        version = self.tower.positions.weight._version  # of its last change in place
        if version != self._version or self.is_tower_trained:
            self._kept, self._version = {}, version
        found = [self._kept.pop(image.digest, None) or self._encoded(image) for image in images]
        if not self.is_tower_trained:
            self._kept |= {image.digest: one for image, one in zip(images, found, strict=True)}
            while sum(one.values.nbytes for one in self._kept.values()) > MOST_BYTES:
                del self._kept[next(iter(self._kept))]
        return found

    def _encoded(self, image: PromptImage) -> TileFeatures:
        assert image.source is not None, "a prompt that a reader made holds its files"
        return self.encode(self.tiles(decode_image(image.source)))

    # Inference tensors could not be saved for a backward pass.
    @torch.inference_mode(False)
    @torch.no_grad()
    def encode(self, tiles: Tiles) -> TileFeatures:
        """Return the features of an image."""
        pixels = tiles.pixels.to(self.newline)  # its device and number format
        values = pixels if self.is_tower_trained else self.tower(pixels)
        return TileFeatures(values, tiles._replace(pixels=tiles.pixels[:0]))

    def forward(self, images: Sequence[TileFeatures]) -> Tensor:
        """Return the vectors `(n, D)` of images, one after another."""
        return torch.cat([self._vectors(*image) for image in images])

    def _vectors(self, values: Tensor, tiles: Tiles) -> Tensor:
        features = self.tower(values) if values.dim() == 4 else values
        return image_vectors(self.projector(features), tiles, self.newline, self.spec.most_tiles)
