"""The row tile: the number of rows to which products are padded so that a row's bits are reproducible.

A library chooses its kernel by the shape of a product, and kernels sum in different orders. On CPU the
bits of a row do not depend on the other rows if all products have whole tiles of rows. The necessary size
depends on the processor and on the number of terms in a sum: MKL on an Intel Xeon with AMX uses different
kernels for 8 and for 16 rows from 192 terms on. So it is measured: products of a model's own widths, whole
and cut into pieces, for each size of tile until all bits agree. A trial is made once per process and
shape, with random numbers. Of a weight of more than `MOST_ELEMENTS` it takes the first columns only: in
all measurements the order of a sum depended on rows and terms, never on columns.

On other devices nothing is measured and the smallest tile is used: law 1 does not hold there.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.models.attention import KEY_CHUNK, QUERY_TILE, ROW_TILE, attend_chunks
from unmask.models.stacked_linear import project_groups

if TYPE_CHECKING:
    from unmask.models.transformer import Model

TILES = (ROW_TILE, 2 * ROW_TILE, 4 * ROW_TILE, 8 * ROW_TILE)
# Rows of a trial, and elements of its weight: enough to separate the kernels, in little time.
FEWEST_ROWS, MOST_ROWS, ROW_ELEMENTS = 256, 2048, 2**27
MOST_ELEMENTS = 2**22


class Product(NamedTuple):
    """The shape of a product of rows with a weight `(out, in)`."""

    width_in: int
    width_out: int
    has_bias: bool = False
    dtype: torch.dtype = torch.float32
    is_stacked: bool = False

    def __str__(self) -> str:
        """Return the shape for messages."""
        name = str(self.dtype).removeprefix("torch.")
        return f"{self.width_in} x {self.width_out} in {name}"


def products(module: nn.Module) -> set[Product]:
    """Return the shapes of all products with weights that a module's forward pass makes on a CPU."""
    found: set[Product] = set()
    for part in module.modules():
        bias = getattr(part, "bias", None)
        if isinstance(part, nn.Embedding):
            continue
        for name, weight in part.named_parameters(recurse=False):
            if weight.dim() > 1 and weight.device.type == "cpu":
                has_bias = name == "weight" and bias is not None
                out, width = weight.shape[-2:]
                is_stacked = weight.dim() == 3  # of experts: (experts, out, in)
                found.add(Product(width, out, has_bias, weight.dtype, is_stacked=is_stacked))
    return found


def row_tile(shapes: Iterable[Product]) -> int:
    """Return the smallest tile that keeps the bits of all products; products without one are left out."""
    return max((tile_of(product) or ROW_TILE for product in shapes), default=ROW_TILE)


def inexact(model: "Model") -> list[str]:
    """Return descriptions of the computations of a model whose bits depend on the other rows here."""
    if model.device.type != "cpu":
        return []
    found = sorted(str(product) for product in products(model) if tile_of(product) is None)
    spec = model.spec
    shared = spec.num_heads // spec.num_kv_heads
    if not attention_holds(spec.head_width, shared, torch.get_num_threads()):
        found.append(f"attention with heads of {spec.head_width}")
    if model.backbone.is_compiled:
        found.append("compiled layers")
    return found


def tile_of(product: Product) -> int | None:
    """Return the smallest tile that keeps a row's bits in this product; `None` for none."""
    return tried_tile(product, torch.get_num_threads())


@cache
def tried_tile(product: Product, threads: int) -> int | None:
    """Make the trial; `threads` is the number in use, a part of the cache's key."""
    width_in = product.width_in
    width_out = max(1, min(product.width_out, MOST_ELEMENTS // width_in))
    rows = ROW_ELEMENTS // (width_in * width_out) // TILES[-1] * TILES[-1]
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return (torch.rand(shape, generator=generator) - 0.5).to(product.dtype)

    weight = draw(width_out, width_in)
    bias = draw(width_out) if product.has_bias else None

    def multiply(x: Tensor) -> Tensor:
        if product.is_stacked:
            return project_groups(x, weight[None], torch.tensor([len(x)], dtype=torch.int32))
        return F.linear(x, weight, bias)

    with torch.no_grad():
        x = draw(min(max(rows, FEWEST_ROWS), MOST_ROWS), width_in)
        return least_tile(multiply, x)


def least_tile(multiply: Callable[[Tensor], Tensor], x: Tensor) -> int | None:
    """Return the smallest tile for which rows of `x (T, in)` have the same bits in every piece; `None` for none.

    Args:
        multiply: the product, as a function of its rows.
        x: rows, a multiple of the largest tile.
    """
    whole = multiply(x)
    for tile in TILES:
        pieces = torch.cat([multiply(piece) for piece in x.split(_cut(len(x), tile))])
        if torch.equal(pieces, whole):
            return tile
    return None


def _cut(count: int, tile: int) -> list[int]:
    """Return pieces of one tile, of two, and so on, that add up to a multiple of the tile."""
    sizes: list[int] = []
    while (left := count - sum(sizes)) > 0:
        sizes.append(min(left, tile * (len(sizes) + 1)))
    return sizes


@cache
def attention_holds(head_width: int, num_shared: int, threads: int) -> bool:
    """Return whether attention in fp32 keeps a row's bits among other rows and with more, masked keys.

    Args:
        head_width: width of the heads.
        num_shared: query heads per key head.
        threads: number in use, a part of the cache's key.
    """
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, num_shared, 64, head_width, generator=generator)
    keys, values = torch.randn(2, 2, 12 * KEY_CHUNK, head_width, generator=generator)
    for visible in (20, 64, 100, 200, 700):
        least = -(-visible // KEY_CHUNK)
        outputs: list[Tensor] = []
        for rows, chunks in ((QUERY_TILE, least), (4 * QUERY_TILE, least + 1), (64, 12)):
            hidden = (torch.arange(chunks * KEY_CHUNK) >= visible).expand(1, 1, rows, -1)
            some = slice(chunks * KEY_CHUNK)
            mixed = attend_chunks(
                q[:, :, :rows].flatten(1, 2), keys[:, some], values[:, some], hidden
            )
            outputs.append(mixed.view(2, num_shared, rows, head_width)[:, :, :QUERY_TILE])
        if not all(torch.equal(outputs[0], other) for other in outputs):
            return False
    return True
